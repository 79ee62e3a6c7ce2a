"""Writes to stdout and stderr: values as raw bytes, documents as JSON, notes for people on stderr.

Only the answer goes to stdout, so that `$(dyn get k)` and `dyn … --json | jq` are exact. What is said *about* the answer
goes to stderr. A document is one line in a pipe, and indented on a terminal.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from dynamo_cli.failures import Failure

JsonValue = str | dict[str, str]


def is_terminal() -> bool:
    """Whether stdout is read by a person."""
    return sys.stdout.isatty()


def write_bytes(data: bytes) -> None:
    """Writes exactly `data` to stdout."""
    sys.stdout.flush()
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def write_line(text: str = "") -> None:
    """Writes a line to stdout and flushes it, so that a reader never waits for the rest of a line."""
    # What has no UTF-8 form (a lone surrogate in JSON text) is written escaped, which means the same in JSON.
    write_bytes(text.encode("utf-8", "backslashreplace") + b"\n")


def write_json(document: Any) -> None:
    """Writes a JSON document to stdout, its members in the given order."""
    write_line(json.dumps(document, ensure_ascii=False, indent=2 if is_terminal() else None))


def note(text: str) -> None:
    """Writes a line to stderr."""
    sys.stdout.flush()
    print(text, file=sys.stderr, flush=True)


def report(failure: Failure) -> None:
    """Writes a failure to stderr: what happened, and what to try."""
    note(f"dyn: {failure.message}")
    if failure.hint is not None:
        note(f"hint: {failure.hint}")


def as_json(data: bytes) -> JsonValue:
    """Bytes for a JSON document: text if they are UTF-8, else `{"base64": "…"}` (DESIGN §7)."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        import base64

        return {"base64": base64.b64encode(data).decode("ascii")}


def as_shown(data: bytes) -> str:
    """Bytes for a sentence: quoted and printable."""
    text = data.decode("utf-8", "backslashreplace")
    return f"'{text}'" if text.isprintable() else repr(text)
