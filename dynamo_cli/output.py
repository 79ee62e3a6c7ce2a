"""What reaches stdout and stderr: values as raw bytes, documents as JSON, notes for people on stderr.

Theory. stdout belongs to the answer and nothing else, so that `$(dyn get k)` and `dyn … --json | jq` are exact; what is
said *about* the answer goes to stderr. Documents are one line in a pipe (a line a document) and indented on a terminal.
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
    """`data` to stdout, exactly."""
    sys.stdout.flush()
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def write_line(text: str = "") -> None:
    """A line to stdout, at once: whoever waits for it, waits for a whole line."""
    # Whatever has no UTF-8 form (a lone surrogate in JSON text) is shown escaped, which in JSON means the same.
    write_bytes(text.encode("utf-8", "backslashreplace") + b"\n")


def write_json(document: Any) -> None:
    """A JSON document to stdout, members in the order given."""
    write_line(json.dumps(document, ensure_ascii=False, indent=2 if is_terminal() else None))


def note(text: str) -> None:
    """A line to stderr."""
    sys.stdout.flush()
    print(text, file=sys.stderr, flush=True)


def report(failure: Failure) -> None:
    """A failure to stderr: what happened, and what to try."""
    note(f"dyn: {failure.message}")
    if failure.hint is not None:
        note(f"hint: {failure.hint}")


def as_json(data: bytes) -> JsonValue:
    """Bytes in a JSON document: text if they are UTF-8, else `{"base64": "…"}` (DESIGN §7)."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        import base64

        return {"base64": base64.b64encode(data).decode("ascii")}


def as_shown(data: bytes) -> str:
    """Bytes in a sentence for people: quoted, printable."""
    text = data.decode("utf-8", "backslashreplace")
    return f"'{text}'" if text.isprintable() else repr(text)
