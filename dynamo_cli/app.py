"""The entry point of `dyn`.

A user of `dyn` must never see a traceback: not after Ctrl-C, not if the reader of a pipe has ended, not because of a bug.
So this module imports almost nothing, installs the handlers for these cases, and only then loads the commands, whose
imports take most of the time of a command.
"""

from __future__ import annotations

import errno
import os
import sys
from types import TracebackType

from dynamo_cli import streams

FAILED = 1
INTERRUPTED = 130  # 128 + SIGINT, as shells do
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
COMPLETE_VARIABLE = "_DYN_COMPLETE"  # set by the scripts in completions/


def main() -> None:
    """Runs the command line and exits. If DYN_DEBUG is set, a bug shows its traceback."""
    streams.prepare()
    if not os.environ.get("DYN_DEBUG"):
        sys.excepthook = _report_bug
    try:
        status = _run()
        sys.stdout.flush()
    except KeyboardInterrupt:
        status = INTERRUPTED
    except BrokenPipeError:
        streams.discard(streams.STDOUT)
        status = FAILED
    except OSError as error:
        place = error.filename or ("stdout" if error.errno in _FULL else "")  # commands name the files that they write
        streams.discard(streams.STDOUT)
        streams.say(": ".join(filter(None, ("dyn", str(place), error.strerror or str(error)))))
        status = FAILED
    sys.exit(status)


def _run() -> int | str | None:
    if sys.argv[1:] == ["--version"]:  # needs none of the commands, whose imports take most of the time
        from dynamo_cli.version import version_text

        print(version_text())
        return 0
    from typer.main import get_command

    from dynamo_cli.commands import app

    if COMPLETE_VARIABLE in os.environ:
        from typer.completion import completion_init  # type: ignore[attr-defined]

        completion_init()  # Typer calls it only for apps that install their own completion, and ours does not
    try:
        get_command(app).main(prog_name="dyn", complete_var=COMPLETE_VARIABLE)
    except SystemExit as ended:
        return ended.code
    return 0


def _report_bug(kind: type[BaseException], error: BaseException, at: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        return
    streams.say(f"dyn: a bug in dyn: {kind.__name__}: {error}")
    streams.say("hint: run the same command with DYN_DEBUG=1 to see where")
