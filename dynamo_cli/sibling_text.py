"""The keys with siblings as plain text: the rows of `dyn siblings list`, and the lines of `show` and `resolve`.

plain.py says how plain text is laid out; pictures.py shows the same rows on a terminal.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence

from dynamo_cli.output import as_shown, counted
from dynamo_cli.plain import Document, Row

HEADINGS = ("KEY", "TYPE", "VALUES", "DELETIONS", "HIDDEN", "PARTITION", "DO")


def rows(document: Document) -> list[Row]:
    """The cells of `dyn siblings list`, under HEADINGS."""
    return [
        (
            shown_key(each["key"]),
            each["type"],
            str(each["siblings"]),
            str(each["deletions"]),
            hidden_text(each),
            str(each["partition"]),
            advice(each),
        )
        for each in document["keys"]
    ]


def ranges(numbers: Sequence[int]) -> str:
    """Partitions in order, several in a row as one word: `0-127`, or `3-4 9`."""
    rows: list[list[int]] = []
    for number in sorted(numbers):
        if rows and number <= rows[-1][1] + 1:
            rows[-1][1] = number
        else:
            rows.append([number, number])
    return " ".join(str(first) if first == last else f"{first}-{last}" for first, last in rows)


def shown_key(key: str | Document) -> str:
    """A key as one word: as it is if that is plain, else quoted."""
    if isinstance(key, str) and key and key.isprintable() and " " not in key:
        return key
    return as_shown(key.encode() if isinstance(key, str) else base64.b64decode(str(key.get("base64", ""))))


def hidden_text(each: Document) -> str:
    """The hidden entries by type, such as `hash:2 set:1`."""
    return " ".join(f"{name}:{count}" for name, count in each["hidden"].items())


def advice(each: Document) -> str:
    """What an operator may do about a key."""
    others = [*each["hidden"], *(["string"] if each["type"] == "none" and each["siblings"] else [])]
    return " or ".join(["resolve", *[f"resolve --keep {name}" for name in others]])


def facts(document: Document, values: Sequence[str]) -> str:
    """`dyn siblings show`: one fact a line, and a line for each value of a string, the newest last."""
    lines = [
        ("key", shown_key(document["key"])),
        ("type", document["type"]),
        ("partition", str(document["partition"])),
        ("deletions", str(document["deletions"])),
        ("hidden", hidden_text(document) or "none"),
        *[("value", value) for value in values],
        ("do", advice(document) if document["conflict"] else "nothing: there is nothing to decide"),
    ]
    return "\n".join(f"{name:9}  {value}" for name, value in lines)


def superseded(document: Document) -> str:
    """What a decision has superseded, by how the key was before it."""
    kept = document["kept"]
    parts = [f"{count} of {name}" for name, count in document["hidden"].items() if name != kept]
    if document["type"] not in (kept, "none"):
        parts.append(f"the {document['type']}")
    elif document["siblings"]:
        values = document["siblings"] - (kept == "string" and "value" not in document)
        parts += [f"{values} of string"] if values else []
    parts += [counted(document["deletions"], "deletion")] if document["deletions"] and kept != "none" else []
    return ", ".join(parts) or "nothing"
