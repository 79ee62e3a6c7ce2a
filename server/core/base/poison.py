"""Poison: what has ended a node, in a form by which it is known again (base/quarantine.py)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from xxhash import xxh3_64

PROCEDURE, COMMAND = "procedure ", "command "  # the labels of procedures and commands begin with these
_DIGITS_MAX = 10
_SHOWN_BYTES = 40  # of the name and of the first argument of a command


class Poison:
    """What has ended a node: a label for operators, and a digest of its content, "" if it has none."""

    __slots__ = ("digest", "is_command", "label")

    def __init__(self, label: str, digest: str = "") -> None:
        self.label = label
        self.digest = digest
        self.is_command = label.startswith(COMMAND)


def poison_of_message(label: str, items: Sequence[Any]) -> Poison:
    """Returns the poison that a message with these items is; `label` has its kind."""
    return Poison(label, message_digest(items))


def poison_of_procedure(name: str) -> Poison:
    """Returns the poison that a background procedure is."""
    return Poison(f"{PROCEDURE}{name}")


def poison_of_command(args: Sequence[bytes]) -> Poison:
    """Returns the poison that a client's command is: its label has its name and first argument, the digest covers all
    that is the same when the client repeats it."""
    name = args[0].upper()
    shown = repr(args[1][:_SHOWN_BYTES])[1:] if len(args) > 1 else ""
    label = f"{COMMAND}{repr(name[:_SHOWN_BYTES])[2:-1]} {shown}".rstrip()
    return Poison(label, message_digest([name, *_repeated(name, args)]))


def _repeated(name: bytes, args: Sequence[bytes]) -> Sequence[bytes]:
    """The arguments without those that a node chooses anew: the seed of a script (commands/scripting/job.py), and who an
    attempt is for (commands/blocking/tries.py)."""
    if name == b"DYN.EVAL" and len(args) > 1 and args[1].isdigit() and len(args[1]) < _DIGITS_MAX:
        seed = 2 + int(args[1]) + 3
        return [*args[1:seed], *args[seed + 1 :]]
    if name == b"DYN.TRY":
        return [*args[1:2], *args[5:]]
    return args[1:]


def message_digest(items: Sequence[Any]) -> str:
    """Returns a digest of the items of a message: byte strings, and lists of byte strings."""
    digest = xxh3_64()
    for item in items:
        for part in item if isinstance(item, list) else (item,):
            digest.update(b"%d:" % len(part))
            digest.update(part)
        digest.update(b";")
    return digest.hexdigest()
