"""Writes to stdout and stderr: values as raw bytes, documents as JSON, notes for people on stderr.

Only the answer goes to stdout, so that `$(dyn get k)` and `dyn … --json | jq` are exact. What is said *about* the answer
goes to stderr. A document is one line in a pipe, and indented on a terminal.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any

from dynamo_cli import streams
from dynamo_cli.failures import Failure, WrongUsage

JsonValue = str | dict[str, str]


def is_terminal() -> bool:
    """Whether stdout is read by a person."""
    return sys.stdout.isatty()


def read_bytes() -> bytes:
    """All of stdin. Raises WrongUsage if it is closed: nothing is not the same as an empty value."""
    if not streams.has_stdin():
        raise WrongUsage("- reads the value from stdin, and stdin is closed")
    return sys.stdin.buffer.read()


def counted(number: int, thing: str) -> str:
    """So many things, in words: `1 key`, `2 keys`."""
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def write_bytes(data: bytes) -> None:
    """Writes exactly `data` to stdout."""
    sys.stdout.flush()
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def write_line(text: str = "") -> None:
    """Writes a line to stdout and flushes it, so that a reader never waits for the rest of a line."""
    if streams.is_unicode(sys.stdout):
        # What has no UTF-8 form (a lone surrogate in JSON text) is written escaped, which means the same in JSON.
        write_bytes(text.encode("utf-8", "backslashreplace") + b"\n")
    else:
        print(text, flush=True)


def write_json(document: Any) -> None:
    """Writes a JSON document to stdout, its members in the given order."""
    is_ascii = not streams.is_unicode(sys.stdout)
    write_line(json.dumps(document, ensure_ascii=is_ascii, indent=2 if is_terminal() else None))


def note(text: str) -> None:
    """Writes a line to stderr."""
    sys.stdout.flush()
    streams.say(text)


def note_unanswered(document: Mapping[str, Any]) -> None:
    """Says on stderr which nodes did not answer, if a document names any: what they know is missing in it."""
    names = document.get("unanswered")
    if isinstance(names, list) and names:
        note(f"note: no answer from {' '.join(map(str, names))}: what only these nodes know is missing here")


def report(failure: Failure) -> None:
    """Writes a failure to stderr: what happened, and what to try."""
    note(f"dyn: {failure.message}")
    if failure.hint is not None:
        note(f"hint: {failure.hint}")


def as_json(data: bytes) -> JsonValue:
    """Bytes for a JSON document: text if they are UTF-8, else `{"base64": "…"}`."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        import base64

        return {"base64": base64.b64encode(data).decode("ascii")}


def as_shown(data: bytes) -> str:
    """Bytes for a sentence: quoted and printable."""
    text = data.decode("utf-8", "backslashreplace")
    return f"'{text}'" if text.isprintable() else repr(text)
