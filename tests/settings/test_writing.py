"""Nothing half-written is ever left looking whole."""

import errno
import os
import subprocess
import tempfile
from pathlib import Path

import pytest
import torch

from headcount.errors import BadRecipe, PruningError
from headcount.settings.writing import alone, naming_a_full_disk, require_empty, write_atomically, writing_directory


def test_a_directory_appears_whole(tmp_path: Path) -> None:
    with writing_directory(tmp_path / "a" / "model") as aside:
        (aside / "weights").write_text("x")
        assert not (tmp_path / "a" / "model").exists()
    assert (tmp_path / "a" / "model" / "weights").read_text() == "x"
    (tmp_path / "there").mkdir()
    with writing_directory(tmp_path / "there") as aside:
        (aside / "weights").write_text("y")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "there"]


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        RuntimeError("I/O error: No space left on device (os error 28)"),
        RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 704 vs 598"),
    ],
)
def test_a_full_disk_leaves_nothing(error: Exception, tmp_path: Path) -> None:
    with (
        pytest.raises(PruningError, match="The disk is full: .* was not written"),
        writing_directory(tmp_path / "m") as aside,
    ):
        (aside / "half").write_text("x")
        raise error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_disk_in_the_words_of_torch() -> None:
    with pytest.raises(PruningError, match="The disk is full"), naming_a_full_disk("checkpoint"):
        torch.save({"weights": torch.zeros(10_000)}, "/dev/full")


def test_other_errors_pass_and_leave_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyError), writing_directory(tmp_path / "m") as aside:
        (aside / "half").write_text("x")
        raise KeyError("other")
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("x")
    (tmp_path / "file").write_text("x")
    for name in ("full", "file"):
        with pytest.raises(BadRecipe, match="is there already and not empty"):
            require_empty(tmp_path / name)
    require_empty(tmp_path / "new")


def test_a_text_file_is_replaced_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_atomically(tmp_path / "r.json", "one")
    write_atomically(tmp_path / "r.json", "two")
    assert (tmp_path / "r.json").read_text() == "two"
    monkeypatch.setattr("os.replace", lambda *args: (_ for _ in ()).throw(OSError(errno.ENOSPC, "full")))
    with pytest.raises(OSError, match="full"):
        write_atomically(tmp_path / "r.json", "three")
    assert [path.name for path in tmp_path.iterdir()] == ["r.json"] and (tmp_path / "r.json").read_text() == "two"


def test_what_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        write_atomically(tmp_path / "none" / "r.json", "one")
    assert caught.value.filename == str(tmp_path / "none" / "r.json")


def test_links_pipes_and_devices_are_written_to(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "place")
    write_atomically(tmp_path / "link", "one")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "place").read_text() == "one"
    os.mkfifo(tmp_path / "pipe")
    reader = subprocess.Popen(["cat", tmp_path / "pipe"], stdout=subprocess.PIPE)
    write_atomically(tmp_path / "pipe", "two")
    assert reader.communicate(timeout=60)[0] == b"two" and (tmp_path / "pipe").is_fifo()


def test_what_was_made_is_kept_where_something_else_came(tmp_path: Path) -> None:
    out = tmp_path / "out"
    says = "Something else has come to .*out' meanwhile. What was made is '.*': rename"
    with pytest.raises(BadRecipe, match=says), writing_directory(out) as aside:
        (aside / "weights").write_text("mine")
        out.mkdir()
        (out / "theirs").touch()
    assert (aside / "weights").read_text() == "mine" and [each.name for each in out.iterdir()] == ["theirs"]


def test_a_directory_that_has_to_stay_is_filled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a mounted one, whose name cannot be given to another; and one in a directory that is not ours."""
    make = tempfile.mkdtemp

    def in_it_only(dir: Path, prefix: str) -> str:
        if dir == tmp_path:
            raise PermissionError(errno.EACCES, "not yours", str(dir / "x"))
        return make(dir=dir, prefix=prefix)

    monkeypatch.setattr("tempfile.mkdtemp", in_it_only)
    with pytest.raises(PermissionError) as caught, writing_directory(tmp_path / "none"):
        pass
    assert caught.value.filename == str(tmp_path / "none")
    (tmp_path / "out").mkdir()
    place = (tmp_path / "out").stat().st_ino
    with writing_directory(tmp_path / "out") as aside:
        (aside / "weights").write_text("x")
        (aside / "part").mkdir()
    assert sorted(each.name for each in (tmp_path / "out").iterdir()) == ["part", "weights"]
    assert (tmp_path / "out").stat().st_ino == place


def test_one_process_at_a_time(tmp_path: Path) -> None:
    with alone(tmp_path / "new" / "out"):
        says = "Another process is making '.*out'. Wait for it, or name another output"
        with pytest.raises(BadRecipe, match=says), alone(tmp_path / "new" / "out"):
            pass
        with alone(tmp_path / "new" / "other"):
            pass
    with alone(tmp_path / "new" / "out"):
        pass
    assert not list((tmp_path / "new").iterdir())


def test_a_link_to_an_empty_directory_is_filled(tmp_path: Path) -> None:
    (tmp_path / "place").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "place")
    with writing_directory(tmp_path / "link") as aside:
        (aside / "weights").write_text("x")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "place" / "weights").read_text() == "x"
