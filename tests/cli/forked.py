"""`python -m tests.cli.forked CASES`: runs `dyn` many times, each in a fork of this process, which has the imports done.

CASES is a JSON file: [{"words", "condition"}]. The results, in the same order, are printed as JSON: [{"status", "stdout",
"stderr"}]; both are what reached a file, so they are empty if the stream is closed.
"""

from __future__ import annotations

import io
import json
import os
import sys
import tempfile
from typing import IO, Any

import typer.main

from dynamo_cli import app, certificates, commands, secret_files  # noqa: F401 - so that no fork has to import them

CONDITIONS = ("plain", "no stdin", "no stdout", "no stderr", "nothing", "full stdout", "full stderr", "no reader",
              "latin-1", "ascii", "no bytes of UTF-8")  # fmt: skip
CLOSED = {"no stdin": (0,), "no stdout": (1,), "no stderr": (2,), "nothing": (0, 1, 2)}
SECONDS_MAX = 60
AT_A_TIME = 16


def main() -> None:
    """Runs all cases, some at a time."""
    built = typer.main.get_command(commands.app)
    typer.main.get_command = lambda typer_instance: built  # made once, and not in each fork
    with open(sys.argv[1]) as file:
        cases = json.load(file)
    results: list[dict[str, Any]] = []
    for first in range(0, len(cases), AT_A_TIME):
        begun = [_begin(case) for case in cases[first : first + AT_A_TIME]]
        results += [_result(*run) for run in begun]
    print(json.dumps(results))


def _begin(case: dict[str, Any]) -> tuple[int, IO[bytes], IO[bytes]]:
    out, err = tempfile.TemporaryFile(), tempfile.TemporaryFile()  # noqa: SIM115 - closed by `_result`
    child = os.fork()
    if not child:
        os._exit(_be_dyn(case["words"], case["condition"], out.fileno(), err.fileno()))
    return child, out, err


def _result(child: int, out: IO[bytes], err: IO[bytes]) -> dict[str, Any]:
    _, wait_status = os.waitpid(child, 0)
    with out, err:
        out.seek(0)
        err.seek(0)
        texts = {"stdout": out.read().decode("latin-1"), "stderr": err.read().decode("utf-8", "replace")}
    return {"status": os.waitstatus_to_exitcode(wait_status), **texts}


def _be_dyn(words: list[str], condition: str, out: int, err: int) -> int:
    """As the interpreter starts and ends a program: a closed stream is None, and at the end stdout is flushed."""
    import signal

    signal.alarm(SECONDS_MAX)
    _arrange(condition, out, err)
    encoding = condition if condition in ("latin-1", "ascii") else "utf-8"
    for number, name in ((0, "stdin"), (1, "stdout"), (2, "stderr")):
        is_closed = number in CLOSED.get(condition, ())
        mode, errors = ("rb" if number == 0 else "wb"), ("backslashreplace" if number == 2 else "strict")
        stream = None if is_closed else io.TextIOWrapper(os.fdopen(number, mode), encoding=encoding, errors=errors)
        setattr(sys, name, stream)
    sys.argv = ["dyn", *words]
    try:
        app.main()
        status: Any = 0
    except SystemExit as ended:
        status = ended.code
    except BaseException:  # noqa: BLE001 - as the interpreter does
        sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
        status = 1
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        status = 120
    return int(status or 0)


def _arrange(condition: str, out: int, err: int) -> None:
    null = os.open(os.devnull, os.O_RDWR)
    for number, descriptor in ((0, null), (1, out), (2, err)):
        os.dup2(descriptor, number)
    if condition == "no reader":
        reading, writing = os.pipe()
        os.close(reading)
        os.dup2(writing, 1)
    if condition.startswith("full"):
        os.dup2(os.open("/dev/full", os.O_WRONLY), 1 if condition == "full stdout" else 2)
    for number in CLOSED.get(condition, ()):
        os.close(number)
    os.closerange(3, 256)


if __name__ == "__main__":
    main()
