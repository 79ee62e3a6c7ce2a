"""`dyn get`, `dyn set`, `dyn del`: values, contexts and siblings for shell scripts.

These are DYN.GET, DYN.SET and DYN.DEL, not Redis' GET, SET and DEL. They show every sibling and never decide
for the caller. A careful script reads, merges, and writes back with the context that it read. A write without a context
says that its writer has seen nothing, so it supersedes nothing. Keys and values are bytes from the command line to the
socket, so that bytes that are not UTF-8 are kept.
"""

from __future__ import annotations

from typing import Any

import typer

from dynamo_cli.client import Client
from dynamo_cli.failures import ExitStatus, Failure, WrongUsage
from dynamo_cli.options import JSON, Database, ExpireMs, ExpireSeconds, Key, Raw, ReadQuorum, Token, Value, WriteQuorum
from dynamo_cli.output import as_json, as_shown, note, read_bytes, write_bytes, write_json, write_line
from dynamo_cli.target import target_of


def get(
    context: typer.Context,
    key: Key,
    as_document: JSON = False,
    raw: Raw = False,
    read_quorum: ReadQuorum = None,
    database: Database = None,
) -> None:
    """Print what is stored under KEY.

    The value is printed as its bytes and one newline. If concurrent writes left several values (siblings), each is printed
    on its own line, and a note on stderr counts them. If nothing is stored, nothing is printed and the exit status is 1.

    With --json the document {"key", "context", "values"} is printed; a value that is not UTF-8 is {"base64": "..."} in it.
    Pass the context to dyn set or dyn del to supersede exactly these values.
    """
    if raw and as_document:
        raise typer.BadParameter("--raw and --json exclude each other")
    with target_of(context).of_database(database).connect() as client:
        token, values = _read(client, key, read_quorum)
    if as_document:
        write_json({"key": as_json(key), "context": token, "values": [as_json(value) for value in values]})
    elif raw and len(values) > 1:
        raise Failure(
            f"{len(values)} siblings under {as_shown(key)}: --raw prints a single value only",
            "dyn get --json shows all; dyn set --context resolves them",
        )
    else:
        write_bytes(b"".join(value if raw else value + b"\n" for value in values))
        if len(values) > 1:
            note(f"note: {len(values)} siblings; dyn get --json shows their context, dyn set --context resolves them")
    if not values:
        note(f"dyn: nothing is stored under {as_shown(key)}")
        raise typer.Exit(ExitStatus.FAILED)


def set_(
    context: typer.Context,
    key: Key,
    value: Value,
    token: Token = None,
    write_quorum: WriteQuorum = None,
    expire_s: ExpireSeconds = None,
    expire_ms: ExpireMs = None,
    as_document: JSON = False,
    database: Database = None,
) -> None:
    """Store VALUE under KEY.

    With --context the value supersedes exactly the values that the context was read with. Without it the writer has seen
    nothing, so the value becomes a sibling of whatever is stored. (Redis' SET, as redis-cli sends it, supersedes what its
    coordinator has seen.)

    With --json the document {"key", "context", "acks", "hinted"} is printed: the context after the write, how many
    replicas acknowledged it, and how many of those store it as a hint for an owner that could not be reached.

    A value that begins with a dash needs -- before it: dyn set -- KEY -5.
    """
    if expire_s is not None and expire_ms is not None:
        raise typer.BadParameter("--ex and --px exclude each other")
    command: list[bytes | str | int] = ["DYN.SET", key, read_bytes() if value == b"-" else value]
    if expire_s is not None:
        command += ["EX", expire_s]
    if expire_ms is not None:
        command += ["PX", expire_ms]
    with target_of(context).of_database(database).connect() as client:
        _show_write("stored", key, _write(client, command, token, write_quorum), as_document)


def del_(
    context: typer.Context,
    key: Key,
    token: Token = None,
    write_quorum: WriteQuorum = None,
    as_document: JSON = False,
    database: Database = None,
) -> None:
    """Delete what is stored under KEY.

    With --context exactly the values that the context was read with are deleted. Without it the command first reads KEY and
    deletes what it read: a value that another client writes in between stays. If nothing is stored, the exit status is 1.

    With --json the document {"key", "context", "acks", "hinted"} is printed, as by dyn set.
    """
    with target_of(context).of_database(database).connect() as client:
        if token is None:
            token, values = _read(client, key, None)
            if not values:
                if as_document:
                    write_json({"key": as_json(key), "context": token, "acks": 0, "hinted": 0})
                note(f"dyn: nothing is stored under {as_shown(key)}")
                raise typer.Exit(ExitStatus.FAILED)
        _show_write("deleted", key, _write(client, ["DYN.DEL", key], token, write_quorum), as_document)


def _read(client: Client, key: bytes, read_quorum: int | None) -> tuple[str | None, list[bytes]]:
    """The context (None if there is none) and the siblings under `key`."""
    quorum = () if read_quorum is None else ("R", read_quorum)
    reply = client.call("DYN.GET", key, *quorum)
    match reply:
        case [bytes() | None as token, list() as values] if all(isinstance(value, bytes) for value in values):
            return (None if token is None else token.decode("ascii", "replace")), values
    raise client.nonsense("DYN.GET", "not [context, [value, ...]]")


def _write(
    client: Client, command: list[bytes | str | int], token: str | None, write_quorum: int | None
) -> tuple[str, int, int]:
    """Sends a DYN.SET or DYN.DEL with its options; returns the new context, the acks and the hinted acks."""
    if token is not None:
        if not token.isascii():
            raise WrongUsage("the context is not one that a node gave", "read the key again: dyn get KEY --json")
        command += ["CONTEXT", token]
    if write_quorum is not None:
        command += ["W", write_quorum]
    reply: Any = client.call(*command, writes=True)
    match reply:
        case [bytes() as context, int() as acks, int() as hinted]:
            return context.decode("ascii", "replace"), acks, hinted
    raise client.nonsense(str(command[0]), "not [context, acks, hinted]")


def _show_write(done: str, key: bytes, outcome: tuple[str, int, int], as_document: bool) -> None:
    context, acks, hinted = outcome
    if as_document:
        write_json({"key": as_json(key), "context": context, "acks": acks, "hinted": hinted})
    else:
        write_line(f"{done}: acks={acks} hinted={hinted}")
