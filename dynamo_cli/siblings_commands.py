"""`dyn siblings list`, `show`, `resolve`: keys that concurrent writes have left something to decide under.

Most keys of that kind need nobody: the next write of a key supersedes what it has seen. These commands are for the others:
several values of a string, of which plain commands show one, and entries of another type, which they do not show at all.
A list goes page by page over all keys, as SCAN does, and each page is a command of its own. So it delays nobody, it goes
on with another connection if one breaks, and it names the partitions that too few nodes answered for (exit status 4).
"""

from __future__ import annotations

from functools import partial
from typing import Any

import typer

from dynamo_cli import plain, sibling_text
from dynamo_cli.client import Client
from dynamo_cli.failures import ExitStatus, Failure
from dynamo_cli.following import Follower
from dynamo_cli.options import JSON, Database, Keep, Key, Match, NewValue, Token
from dynamo_cli.output import as_json, as_shown, counted, is_terminal, note, write_json, write_line
from dynamo_cli.progress import Progress, progress
from dynamo_cli.shapes import Shape, ask, require
from dynamo_cli.target import target_of

Document = dict[str, Any]

_PAGE_SHAPE: Shape = {"cursor": int, "examined": int, "keys": list, "unlisted": list}
_KEY_SHAPE: Shape = {
    "key": (str, dict), "type": str, "siblings": int, "deletions": int, "hidden": dict, "partition": int,
}  # fmt: skip
_SHOW_SHAPE: Shape = {**_KEY_SHAPE, "conflict": bool, "choices": list}
_RESOLVED_SHAPE: Shape = {**_KEY_SHAPE, "kept": str, "context": str}


def siblings_list(
    context: typer.Context, pattern: Match = b"*", as_document: JSON = False, database: Database = None
) -> None:
    """List the keys with several values, or with entries of another type than the one that they show.

    Concurrent writes leave both behind. Each line has the key, its type, the number of its values and of deletions beside
    them, the hidden entries by type, the partition, and what to do. The next write of a key that has seen all of it leaves
    one of them, so many a line goes away by itself. If too few nodes answer for some partitions, the others are listed, a
    note names those, and the exit status is 4.

    With --json: {"keys": [{"key", "type", "siblings", "deletions", "hidden", "partition"}], "examined", "unlisted"}. A key
    that is not UTF-8 is {"base64": "..."} in it; hidden is {"type": fields}; unlisted has numbers of partitions.
    """
    target = target_of(context).of_database(database)
    with Follower(target, target.connect()) as follower, progress("keys", "found", as_document, aside=True) as shown:
        document = _all_pages(follower, pattern, shown)
    if as_document:
        write_json(document)
    elif not document["keys"]:
        write_line(f"no siblings under {counted(document['examined'], 'key')}")
    elif is_terminal():
        from dynamo_cli import pictures

        pictures.show_table(sibling_text.HEADINGS, sibling_text.rows(document), pictures.console())
    else:
        write_line("\n".join(plain.aligned(sibling_text.HEADINGS, sibling_text.rows(document))))
    if document["unlisted"]:
        numbers = sibling_text.ranges(document["unlisted"])
        note(f"dyn: too few nodes answered for partitions {numbers}; dyn cluster status shows which are down")
        raise typer.Exit(ExitStatus.DEGRADED)


def _all_pages(follower: Follower, pattern: bytes, shown: Progress) -> Document:
    keys: list[Document] = []
    unlisted: list[int] = []
    cursor = examined = 0
    while True:
        page = follower.ask(partial(_page, pattern, cursor))
        keys += page["keys"]
        unlisted += page["unlisted"]
        examined += page["examined"]
        cursor = page["cursor"]
        if not cursor:
            return {"keys": keys, "examined": examined, "unlisted": unlisted}
        shown.show(len(keys), 0, f"{examined} looked at so far, {len(keys)} with siblings")


def _page(pattern: bytes, cursor: int, client: Client) -> Document:
    document = ask(client, _PAGE_SHAPE, "DYN.SIBLINGS", "LIST", cursor, "COUNT", 1000, "MATCH", pattern)
    for each in document["keys"]:
        require(client, "DYN.SIBLINGS LIST", each, _KEY_SHAPE)
    return document


def siblings_show(context: typer.Context, key: Key, as_document: JSON = False, database: Database = None) -> None:
    """Show what concurrent writes have left under KEY: its values, its hidden entries, and what can be kept.

    If there is nothing to decide, the exit status is 0 and the line says so. If nothing is stored, it is 1.

    With --json: {"key", "type", "siblings", "deletions", "hidden", "partition", "conflict", "choices", "context",
    "values"}. Pass the context to dyn siblings resolve to decide only about what you have seen.
    """
    with target_of(context).of_database(database).connect() as client:
        document = ask(client, _SHOW_SHAPE, "DYN.SIBLINGS", "SHOW", key)
        values = _values(client, key) if document["type"] in ("string", "none") and document["siblings"] else []
    if as_document:
        write_json({**document, "values": [as_json(value) for value in values]})
    else:
        write_line(sibling_text.facts(document, [as_shown(value) for value in values]))
    if document["type"] == "none" and not document["conflict"]:
        raise typer.Exit(ExitStatus.FAILED)


def _values(client: Client, key: bytes) -> list[bytes]:
    match client.call("DYN.GET", key):
        case [_, list() as values] if all(isinstance(value, bytes) for value in values):
            return values
    raise client.nonsense("DYN.GET", "not [context, [value, ...]]")


def siblings_resolve(
    context: typer.Context,
    key: Key,
    keep: Keep = None,
    value: NewValue = None,
    token: Token = None,
    as_document: JSON = False,
    database: Database = None,
) -> None:
    """Decide what KEY is from now on: one type, and one value if it is a string.

    Without --keep the key stays what plain commands show: its present type, and its newest value. With --keep it becomes
    what it has of that type; none keeps the deletion. With --value it becomes this string. All else under the key is
    superseded. Increments, fields and elements of the kept type that are written elsewhere at this moment stay.

    With --context, which dyn siblings show --json and dyn get --json give, nothing is decided if the key was written since.
    With --value, what was written since becomes a sibling.

    With --json: {"key", "type", "siblings", "deletions", "hidden", "partition", "kept", "context"}: how the key was, and
    what it is.
    """
    if keep is not None and value is not None:
        raise typer.BadParameter("--keep and --value exclude each other")
    with target_of(context).of_database(database).connect() as client:
        document = _set(client, key, value, token) if value is not None else _decide(client, key, keep, token)
    if as_document:
        write_json(document)
    else:
        write_line(f"kept: {document['kept']}; superseded: {sibling_text.superseded(document)}")


def _decide(client: Client, key: bytes, keep: str | None, token: str | None) -> Document:
    command: list[bytes | str | int] = ["DYN.SIBLINGS", "RESOLVE", key]
    command += [] if keep is None else ["KEEP", keep]
    command += [] if token is None else ["CONTEXT", token]
    return ask(client, _RESOLVED_SHAPE, *command, writes=True)


def _set(client: Client, key: bytes, value: bytes, token: str | None) -> Document:
    """Writes a value over what the context covers; without one over what is there now."""
    before = ask(client, _SHOW_SHAPE, "DYN.SIBLINGS", "SHOW", key)
    seen = token if token is not None else before["context"]
    if seen is None:
        raise Failure(f"nothing is stored under {as_shown(key)}", "dyn set stores a value")
    reply = client.call("DYN.SET", key, value, "CONTEXT", seen, writes=True)
    match reply:
        case [bytes() as after, int(), int()]:
            known = {name: before[name] for name in _KEY_SHAPE}
            return {**known, "kept": "string", "context": after.decode("ascii", "replace")}
    raise client.nonsense("DYN.SET", "not [context, acks, hinted]")
