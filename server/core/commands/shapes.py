"""Replies whose shape depends on the protocol: what RESP3 has as map, set or text, RESP2 has as array or string.

Also what commands with subcommands share: the container, and its HELP, which is made from the subcommands themselves.

Source: https://redis.io/docs/latest/develop/reference/protocol-spec/
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from protocol import resp
from server.core.commands.spec import IMMEDIATE, CommandSpec, Handler
from server.core.sinks import Session, Sink

if TYPE_CHECKING:
    from server.core.node import Node


def mapping(pairs: Sequence[tuple[bytes, bytes]], resp3: bool) -> bytes:
    """Encoded keys and values, in order: a map, or in RESP2 an array of both in turn."""
    head = b"%%%d\r\n" % len(pairs) if resp3 else b"*%d\r\n" % (2 * len(pairs))
    return head + b"".join([key + value for key, value in pairs])


def collection(items: Sequence[bytes], resp3: bool) -> bytes:
    """Encoded items without an order: a set, or in RESP2 an array."""
    return (b"~%d\r\n" if resp3 else b"*%d\r\n") % len(items) + b"".join(items)


def text(content: str, resp3: bool) -> bytes:
    """Text for people: a verbatim string, or in RESP2 a bulk string. What is not ASCII goes out as UTF-8."""
    data = content.encode("utf-8", "surrogateescape")
    return b"=%d\r\ntxt:%b\r\n" % (len(data) + 4, data) if resp3 else resp.bulk(data)


def word(content: str) -> bytes:
    """A bulk string of a str."""
    return resp.bulk(content.encode())


def show(data: bytes) -> str:
    """Bytes of a client, in an error text."""
    return data.decode("utf-8", "replace")


def session_of(sink: Sink) -> Session:
    """The connection that gave the command: one that is about its connection is never relayed nor part of another."""
    assert isinstance(sink, Session), "the command belongs to a connection"
    return sink


def _never(node: Node, sink: Sink, number: int, args: list[bytes]) -> bytes:
    raise AssertionError("of a container only the subcommands run")


def container(
    name: str,
    summary: str,
    group: str,
    subcommands: tuple[CommandSpec, ...],
    since: str = "1.0.0",
    refused: tuple[CommandSpec, ...] = (),
) -> CommandSpec:
    """A command that is nothing but its subcommands and a HELP about them; about those `refused` it is silent."""
    return CommandSpec(
        name,
        -2,
        IMMEDIATE,
        _never,
        summary,
        group,
        since=since,
        complexity="Depends on subcommand.",
        subcommands=(*subcommands, *refused, helper(name, group, subcommands)),
    )


def helper(name: str, group: str, subcommands: tuple[CommandSpec, ...], lines: Sequence[str] = ()) -> CommandSpec:
    """The subcommand HELP, in Redis' format; `lines` come before the subcommands."""
    return CommandSpec(
        f"{name}|help",
        2,
        IMMEDIATE,
        _helping(name, subcommands, lines),
        "Lists the subcommands.",
        group,
        "loading stale",
        since="5.0.0",
    )


def _helping(name: str, subcommands: tuple[CommandSpec, ...], lines: Sequence[str]) -> Handler:
    told = [f"{name.upper()} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:", *lines]
    for spec in subcommands:
        told.append(f"{spec.name.rpartition('|')[2].upper()} {spec.arguments}".rstrip())
        told.append(f"    {spec.summary}")
    told += ["HELP", "    Prints this help."]
    reply = resp.array([resp.simple(line) for line in told])
    return lambda node, sink, number, args: reply
