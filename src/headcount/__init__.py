"""headcount removes attention heads from Transformers: name a budget, pick a method, get back a smaller model.

Importing it also teaches transformers to load pruned models and translation models of headcount's own: at once, or, if
transformers is not imported yet, right after it. The public names stand in `__init__.pyi`; each is imported when it is
asked for, so that what needs no torch, as `headcount --help` or a report, does not wait for it.
"""

from importlib.metadata import version
from typing import Any

import lazy_loader
import wrapt

__version__ = version("headcount")
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


@wrapt.when_imported("transformers")  # type: ignore[untyped-decorator]
def _teach(transformers: Any) -> None:
    """Teach transformers to load pruned models, and translation models of our own."""
    import headcount.directory.structure
    import headcount.nmt  # noqa: F401
