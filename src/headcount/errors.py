"""What can go wrong, in the words of the user. Every message says what was got, what is allowed, what to do."""

import errno


class PruningError(Exception):
    """The base of every error that headcount raises on purpose; the command line prints it in one line.

    Attributes:
        exit_code: Of the command line.
    """

    exit_code = 1


class UnsupportedModel(PruningError):
    """A model whose attention headcount cannot gate or cut without risk."""


class BadRecipe(PruningError):
    """A budget, method, option or setting that cannot be carried out."""


class BadData(PruningError):
    """A data file that cannot be read as the task's examples, or whose labels disagree with the model's."""


class CorruptCheckpoint(PruningError):
    """A saved model whose recorded structure is damaged or contradicts its weights."""


class CorruptRecord(PruningError):
    """A record that cannot be read: cut off, damaged, or of a newer format."""


class DiskFull(PruningError):
    """There is no room left to write; nothing half-written has a name."""

    exit_code = errno.ENOSPC


class SurgeryFailed(PruningError):
    """The cut model did not compute what the gated model computes; the model was put back as it was."""


class ExportFailed(PruningError):
    """An exported graph that could not be made, or does not compute what the model computes; nothing was written."""
