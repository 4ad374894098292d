"""The command that carries out the papers' experiments again."""

import sys
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from headcount.cli import arguments as of
from headcount.cli.arguments import Json
from headcount.cli.experiments import list_runs, pool_of, saying_how_to_go_on
from headcount.cli.flags import named_values
from headcount.cli.terminal import confirm, print_json, print_lines, print_table, say
from headcount.errors import BadRecipe


def reproduce(
    name: Annotated[str | None, Parameter(help="An experiment; see --list.")] = None,
    /,
    *,
    list_: Annotated[bool, Parameter("--list", help="List the experiments.")] = False,
    scale: Annotated[str, Parameter(help="full: as published, which asks first; small: for two cores.")] = "full",
    output: Annotated[
        Path | None,
        Parameter(
            ["--output", "-o"],
            help="Its directory; one that is there goes on. Default: NAME-SCALE, as in lottery-table-1-small.",
        ),
    ] = None,
    data: Annotated[
        Path | None,
        Parameter(help="Of small classification: a directory with nli/ and sst2/. Default: sentences made by rules."),
    ] = None,
    model: Annotated[
        str | None, Parameter(help="Of small classification: the encoder. Default: the one of headcount demo.")
    ] = None,
    only: of.Only = None,
    dry_run: Annotated[bool, Parameter("--dry-run", help="List the runs, and do nothing.")] = False,
    changes: Annotated[
        list[str] | None,
        Parameter("--set", help="In place of the experiment's: data.train=FILE, training.epochs=1."),
    ] = None,
    workers: of.Workers = None,
    ray: of.Ray = None,
    ray_cpus: of.RayCpus = None,
    ray_gpus: of.RayGpus = None,
    threads: of.ThreadsOfARun = None,
    retry: Annotated[bool, Parameter("--retry", help="Try failed runs again.")] = False,
    yes: Annotated[bool, Parameter("--yes", help="Do not ask before a full run.")] = False,
    json_: Json = False,
) -> None:
    """Carry out a table or figure of the two papers again, and show it beside the published one."""
    # Long: its parameters are the flags.
    from headcount.experiments.reproduction import read_experiment

    if list_:
        return _list(json_)
    if name is None:
        raise BadRecipe("Name an experiment. See them: headcount reproduce --list.")
    of.require_sane(threads=threads)
    experiment = read_experiment(name)
    for option, given in (("data", data), ("model", model)):
        if given is not None and not experiment.wants(scale, option):
            raise BadRecipe(f"'{name}' at {scale} scale takes no --{option}: it is of small classification.")
    if data is not None and not data.is_dir():
        raise BadRecipe(f"There is no directory '{data}'. --data is one that holds nli/ and sst2/.")

    from headcount.cli.terminal import Watch
    from headcount.experiments.reproduction.carry_out import Plan
    from headcount.experiments.reproduction.carry_out import reproduce as carry_out
    from headcount.report import write_report
    from headcount.report.published import published, show

    place = output or Path(f"{experiment.source.name}-{scale}")  # experiments that share runs share them there
    plan = Plan(experiment, scale, place, data, model, named_values("--set", changes), tuple(only or ()))
    runs = plan.runs()
    if dry_run:
        return list_runs(runs, json_)
    if scale == "full" and not yes:
        _ask(experiment, runs)

    pool, share = pool_of(workers, ray, ray_cpus, ray_gpus)
    with saying_how_to_go_on(place), Watch() as watch:
        progress, records, problems = carry_out(
            plan, pool, retry=retry, threads=threads or share, watch=watch.show, say=say
        )
    page = place / "report.html"
    write_report(records, page, title=experiment.title, problems=problems)
    say(f"Wrote {page}.")
    ours = show(records, experiment.shows)
    if json_:
        print_json({"published": experiment.published, "ours": ours, "failed": progress.failed})
    else:
        print_table(published(experiment.published), f"published: {experiment.title}")
        print_table(ours, f"ours, {scale} scale")
        for failed, error in progress.failed.items():
            print_lines(f"failed: {failed}: {error}")
        again = " Try failed ones again: --retry." if progress.failed and not retry else ""
        print_lines(
            experiment.differences,
            f"{len(progress.done)} of {len(runs)} runs done.{again} See {page}.",
        )
    if progress.failed:
        sys.exit(1)


def _list(json_: bool) -> None:
    from headcount.experiments.reproduction import experiment_names, read_experiment
    from headcount.experiments.reproduction.experiment import PAPERS

    found = [read_experiment(name) for name in experiment_names()]
    rows: list[dict[str, Any]] = [
        {"name": each.name, "shows": each.title, "runs of": each.source.name if each.source is not each else ""}
        for each in found
    ]
    if json_:
        return print_json(
            [{**row, "what": each.what, "paper": PAPERS[each.paper]} for row, each in zip(rows, found, strict=True)]
        )
    for paper, title in PAPERS.items():
        print_table([row for row, each in zip(rows, found, strict=True) if each.paper == paper], title)


def _ask(experiment: Any, runs: Any) -> None:
    """Tell what a full run needs, and let the user agree to it.

    Raises:
        BadRecipe: The user does not, or cannot be asked.
    """
    from headcount.experiments.reproduction.needs import cost

    found = cost(runs, experiment.needs)
    told = (
        f"'{experiment.source.name}' in full is {found.runs} runs of {found.steps:,} optimiser steps and "
        f"{found.tokens:.2g} tokens together, and downloads its data; {experiment.needs['hardware']}."
    )
    if not sys.stdin.isatty():
        raise BadRecipe(f"{told} To carry it out: --yes. For two cores: --scale small.")
    if not confirm(f"{told} Carry it out?"):
        raise BadRecipe("Not carried out. For two cores: --scale small.")
