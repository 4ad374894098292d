"""Check that data, user and model agree about the number of each label before training.

A model numbers its classes. In a trained model these numbers already have a meaning. Data read in another order
would get wrong scores without an error. Hence these rules:

- Names alone have no order. If the data has the model's own names, it follows the model's order.
- Whoever gives names to numbers states an order. The user (`labels`) does, and the model's configuration. So do a
  data set of the Hub whose labels are indices of names, and a file whose labels are numerals. Two stated orders
  that differ are an error. Its message shows both, because only the user knows the right one.
- The user's order takes precedence. `labels` gives the names in the order of the model's numbers. A numeral i in
  the data then means `labels[i]`. Names that the model does not know, such as another spelling or language, stand
  for the model's names at the same places.
- A model without names of its own takes those of the data. It has the placeholders `LABEL_0`, `LABEL_1` and so on.
"""

from collections.abc import Iterable, Sequence

from transformers import PreTrainedConfig

from headcount.errors import BadData


def sort_labels(labels: Iterable[str]) -> tuple[str, ...]:
    """Return the distinct labels, sorted by value if all are whole numbers, else by alphabet."""
    found = sorted(set(labels))
    return tuple(sorted(found, key=int) if all(_is_numeral(label) for label in found) else found)


def model_labels(config: PreTrainedConfig) -> tuple[str, ...] | None:
    """Return the model's class names in the order of their numbers, or None if it has only placeholders."""
    names = tuple(str(config.id2label[i]) for i in sorted(config.id2label))
    return None if all(name == f"LABEL_{i}" for i, name in enumerate(names)) else names


def label_numbers(found: Sequence[str], labels: tuple[str, ...]) -> dict[str, int]:
    """Return the number of each label in the data: its place in `labels`, or the value of a numeral.

    Raises:
        BadData: The data has a label that is not in `labels`.
    """
    if set(found) <= set(labels):
        return {label: labels.index(label) for label in found}
    if all(_is_numeral(label) and 0 <= int(label) < len(labels) for label in found):
        return {label: int(label) for label in found}
    raise BadData(
        f"The data has the labels {_listed(found)}, but the labels given are {_listed(labels)}. "
        "Give the data's labels, all of them, or, if these are numerals, their names from 0 on."
    )


def check_labels(
    config: PreTrainedConfig,
    found: tuple[str, ...],
    given: tuple[str, ...] | None = None,
    stated: tuple[str, ...] | None = None,
) -> tuple[str, ...]:
    """Return the labels of the data in the order of the model's class numbers.

    Args:
        config: The model's configuration.
        found: The labels that occur in the data, sorted.
        given: The order that the user states.
        stated: The order that the data set states.

    Raises:
        BadData: Two stated orders differ, or data and model have different labels. The message shows both.
    """
    named = model_labels(config)
    if given is not None:
        label_numbers(found, given)
        if named is not None and not _can_stand_for(given, named):
            raise _disagreement("The labels given are", given, named)
        return given
    if named is None:
        return stated or found
    if stated is not None:
        if stated != named:
            raise _disagreement("The data set states the labels", stated, named)
        return named
    if not set(found) <= set(named):  # evaluation data may lack labels
        raise _disagreement("The data has the labels", found, named)
    return named


def _can_stand_for(given: tuple[str, ...], named: tuple[str, ...]) -> bool:
    """Return whether no given name is the model's name for another number. Names unknown to it are allowed."""
    places = {name.casefold(): i for i, name in enumerate(named)}
    return len(given) == len(named) and all(places.get(name.casefold(), i) == i for i, name in enumerate(given))


def _disagreement(who: str, theirs: tuple[str, ...], named: tuple[str, ...]) -> BadData:
    folded, model_folded = [name.casefold() for name in theirs], [name.casefold() for name in named]
    if set(theirs) == set(named):
        why = "the names are the same, the order is not"
    elif folded == model_folded:
        why = "they differ in upper and lower case only"
    elif set(folded) == set(model_folded):
        why = "they differ in order, and in upper and lower case"
    elif all(_is_numeral(label) for label in theirs):
        why = "which number of the data is which name cannot be known"
    else:
        why = "the names are not the same"
    spelt = {name.casefold(): name for name in theirs}
    knows = set(spelt) & set(model_folded) or all(_is_numeral(label) for label in theirs)
    example = f": --labels {','.join(spelt.get(name.casefold(), name) for name in named)}" if knows else ""
    return BadData(
        f"{who} {_listed(theirs)}, but the model has {_listed(named)}: {why}. Say what the data calls the "
        f"model's classes, in the model's order; a numeral i in the data is the i-th, from 0{example}."
    )


def _is_numeral(label: str) -> bool:
    return label.removeprefix("-").isdecimal() and label.isascii()


def _listed(labels: Sequence[str]) -> str:
    return f"({', '.join(labels[:20])}{', …' if len(labels) > 20 else ''})"
