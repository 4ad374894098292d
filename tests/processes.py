"""The command line as processes. Each is forked from one that has imported headcount already: that alone takes seconds.

`python tests/processes.py` is that one: it reads jobs from standard input, a line of JSON each, and answers with exit
codes.
"""

import atexit
import functools
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any


def headcount(*arguments: Any, stdin: str = "", cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command as a user does, in a terminal of 200 columns; what is no UTF-8 may be given as surrogates."""
    words = [str(argument) for argument in arguments]
    if not hasattr(os, "fork"):
        return subprocess.run(
            [sys.executable, "-m", "headcount", *words], capture_output=True, text=True, encoding="utf-8", input=stdin,
            errors="surrogateescape", cwd=cwd, env={**os.environ, "COLUMNS": "200"},
        )  # fmt: skip
    with tempfile.TemporaryDirectory() as directory:
        files = [f"{directory}/{name}" for name in ("in", "out", "err")]
        Path(files[0]).write_bytes(stdin.encode("utf-8", "surrogateescape"))
        server = _server()
        assert server.stdin is not None and server.stdout is not None
        server.stdin.write(json.dumps({"words": words, "cwd": str(cwd or Path.cwd()), "files": files}) + "\n")
        server.stdin.flush()
        code = int(server.stdout.readline())
        out, err = (Path(file).read_bytes().decode("utf-8", "surrogateescape") for file in files[1:])
    return subprocess.CompletedProcess(words, code, out, err)


@functools.cache
def _server() -> subprocess.Popen[str]:
    server = subprocess.Popen(
        [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "COLUMNS": "200"},
    )  # fmt: skip
    atexit.register(server.terminate)
    return server


def _serve() -> None:
    from headcount.cli import main

    for line in sys.stdin:
        job = json.loads(line)
        child = os.fork()
        if not child:
            _run(main, job)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def _run(main: Any, job: dict[str, Any]) -> None:
    """The child's whole life."""
    code: Any = 70
    try:
        os.chdir(job["cwd"])
        for number, (file, flags) in enumerate(zip(job["files"], (os.O_RDONLY, *[os.O_WRONLY | os.O_CREAT] * 2))):  # noqa: B905
            os.dup2(os.open(file, flags, 0o600), number)
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115  the parent's has read ahead
        sys.argv = ["headcount", *job["words"]]
        main()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        import traceback

        traceback.print_exc()
        code = 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    _serve()
