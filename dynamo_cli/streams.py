"""stdin, stdout and stderr as they come: closed, full, or of a terminal that does not know UTF-8.

A closed stream is replaced by /dev/null before anything is opened, because otherwise the next file or socket would get its
number, and what is printed would be sent to a node. Text that the encoding of a stream does not have is replaced by what
looks alike, or by an escape, instead of an error. JSON is ASCII on such a stream, which means the same.
"""

from __future__ import annotations

import codecs
import os
import sys

STDIN, STDOUT, STDERR = 0, 1, 2
_ERRORS = "dyn-alike"
_ALIKE = str.maketrans(
    {"●": "*", "█": "#", "·": ".", "│": "|", "─": "-", "━": "-", "…": "...", "±": "+-", "╸": "-", "╺": "-"}
)
_state = {"stdin": True}


def prepare() -> None:
    """Makes the three streams usable."""
    for number, name in ((STDIN, "stdin"), (STDOUT, "stdout"), (STDERR, "stderr")):
        if getattr(sys, name) is None:
            _replace(number, name)
            if number == STDIN:
                _state["stdin"] = False
    codecs.register_error(_ERRORS, _alike)
    for stream in (sys.stdout, sys.stderr):
        if not is_unicode(stream) and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors=_ERRORS)


def has_stdin() -> bool:
    """Whether stdin was open at the start."""
    return _state["stdin"]


def is_unicode(stream: object) -> bool:
    """Whether a stream of text takes every character."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    try:
        return codecs.lookup(encoding).name.startswith("utf")
    except LookupError:
        return False


def say(text: str) -> None:
    """Writes a line to stderr. If that cannot be written to, there is nobody to tell."""
    try:
        print(text, file=sys.stderr, flush=True)
    except (OSError, ValueError):
        discard(STDERR)


def discard(number: int) -> None:
    """From now on what is written to a stream goes nowhere. Without this the interpreter would try again at its end."""
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, number)
    if null != number:
        os.close(null)


def _replace(number: int, name: str) -> None:
    discard(number)
    mode = "r" if number == STDIN else "w"
    setattr(sys, name, os.fdopen(number, mode, encoding="utf-8", errors="backslashreplace", closefd=False))


def _alike(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    text = error.object[error.start : error.end].translate(_ALIKE)
    return text.encode("ascii", "backslashreplace").decode("ascii"), error.end
