"""The entry point of `dyn`.

Theory. Whoever types `dyn` must never see a traceback: not for Ctrl-C, not for a reader that closed the pipe, not for a
bug. So this module imports next to nothing, sets that up first, and only then loads the commands, whose imports
take most of the time a command takes.
"""

from __future__ import annotations

import os
import sys
from types import TracebackType

FAILED = 1
INTERRUPTED = 130  # 128 + SIGINT, as shells have it
COMPLETE_VARIABLE = "_DYN_COMPLETE"  # set by the scripts in completions/


def main() -> None:
    """Runs the command line and exits. With DYN_DEBUG set, a bug shows its traceback."""
    if not os.environ.get("DYN_DEBUG"):
        sys.excepthook = _report_bug
    try:
        status = _run()
        sys.stdout.flush()
    except KeyboardInterrupt:
        status = INTERRUPTED
    except BrokenPipeError:
        # Whatever is left in the buffer has no reader; keep the interpreter from trying again at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = FAILED
    except OSError as error:
        print(f"dyn: {error.filename}: {error.strerror}" if error.filename else f"dyn: {error}", file=sys.stderr)
        status = FAILED
    sys.exit(status)


def _run() -> int | str | None:
    from typer.main import get_command

    from dynamo_cli.commands import app

    if COMPLETE_VARIABLE in os.environ:
        from typer.completion import completion_init  # type: ignore[attr-defined]

        completion_init()  # Typer does it by itself only for apps that also install their completion, as ours does not
    try:
        get_command(app).main(prog_name="dyn", complete_var=COMPLETE_VARIABLE)
    except SystemExit as ended:
        return ended.code
    return 0


def _report_bug(kind: type[BaseException], error: BaseException, at: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        return
    print(f"dyn: a bug in dyn: {kind.__name__}: {error}", file=sys.stderr)
    print("hint: the same with DYN_DEBUG=1 shows where", file=sys.stderr)
