"""Atomic writing of files and directories: write under another name, then rename."""

import csv
import errno
import io
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from headcount.errors import BadRecipe, DiskFull


def write_atomically(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    write_bytes_atomically(path, text.encode())


def write_bytes_atomically(path: Path, content: bytes) -> None:
    """Write a file whole or not at all. Follow a link, and write into a pipe or a device without replacing it."""
    path = path.resolve()
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if path.exists() and not path.is_file():
        path.write_bytes(content)
        return
    try:
        handle, aside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        error.filename = str(path)  # the name that its reader knows
        raise
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        readable(Path(aside))
        os.replace(aside, path)
    except BaseException:
        Path(aside).unlink(missing_ok=True)
        raise


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a table for spreadsheets, atomically.

    Raises:
        DiskFull: The disk is full.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([_plain(value) for value in row] for row in rows)
    with naming_a_full_disk(path):
        write_atomically(path, text.getvalue().encode("utf-8", "replace").decode("utf-8"))


def _plain(value: Any) -> Any:
    # A spreadsheet would run a text that begins like a formula. These texts may come from anybody.
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@") and len(value) > 1 else value


_NO_ROOM = (os.strerror(errno.ENOSPC), "unexpected pos", "PytorchStreamWriter failed writing", "iostream error")
"""Words by which the errors of libraries report a full disk. Safetensors uses the system's; torch has its own."""


@contextmanager
def naming_a_full_disk(path: str | Path) -> Iterator[None]:
    """Turn an error about a full disk into `DiskFull`, which names the path.

    Raises:
        DiskFull: The disk is full.
    """
    try:
        yield
    except Exception as error:
        full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT)
        if full or any(words in str(error) for words in _NO_ROOM):
            raise DiskFull(f"The disk is full: {path} was not written. Free some space and try again.") from error
        raise


@contextmanager
def writing_directory(path: str | Path) -> Iterator[Path]:
    """Give a temporary directory to write into, and rename it to the path at the end.

    Raises:
        BadRecipe: The path exists, and is not an empty directory. If it appeared during the block, the temporary
            directory stays, and the message names it.
        DiskFull: The disk is full.
    """
    path = Path(path).resolve()  # of a link, the place it points to; of ".", its name
    require_empty(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside, taken = _beside(path), False
    try:
        with naming_a_full_disk(path):
            yield aside
            taken = path.exists() and (not path.is_dir() or any(each != aside for each in path.iterdir()))
            if taken:
                raise BadRecipe(
                    f"Something else has come to '{path}' meanwhile. What was made is '{aside}': rename it."
                )
            _take_name(aside, path)
    finally:
        if not taken:
            shutil.rmtree(aside, ignore_errors=True)


def _beside(path: Path) -> Path:
    """Make a new directory next to a path. If that fails, as beside a mounted one, make it inside."""
    try:
        return Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    except OSError as error:
        if path.is_dir():
            return Path(tempfile.mkdtemp(dir=path, prefix=f".{path.name}."))
        error.filename = str(path)  # the name that its reader knows
        raise


def _take_name(aside: Path, path: Path) -> None:
    """Rename a directory to a path. If the path is a directory that must stay, move the content into it."""
    aside.chmod(0o777 & ~_umask())
    try:
        if path.exists():
            path.rmdir()
        os.replace(aside, path)
    except OSError:
        if not path.is_dir():
            raise
        for each in sorted(aside.iterdir()):
            shutil.move(each, path / each.name)


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Make sure that one process alone works on a path.

    Raises:
        BadRecipe: Another process works on it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path.with_name(f".{path.name}.at-work"), timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise BadRecipe(f"Another process is making '{path}'. Wait for it, or name another output.") from None
    try:
        yield
    finally:
        Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()


def require_empty(path: str | Path) -> None:
    """Make sure that a path does not exist or is an empty directory.

    Raises:
        BadRecipe: A file or a directory with content is there.
    """
    path = Path(path)
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise BadRecipe(f"Output '{path}' is there already and not empty. Name another directory, or remove it.")


def readable(file: Path) -> None:
    """Give a file the permissions of a new file. Only the owner can read temporary files and those of safetensors."""
    file.chmod(0o666 & ~_umask())


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
