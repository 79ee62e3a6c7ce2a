"""Helpers of commands about connections, servers and clusters: encode names, show bytes, find the client's session."""

from __future__ import annotations

from collections.abc import Mapping

from protocol import resp
from server.core.base.sinks import Session, Sink


def word(text: str) -> bytes:
    """A bulk string of a str."""
    return resp.bulk(text.encode())


def named(fields: Mapping[str, bytes], resp3: bool) -> bytes:
    """A map of names to encoded values, in order."""
    return resp.map_([(word(name), value) for name, value in fields.items()], resp3)


def show(data: bytes) -> str:
    """A client's bytes as text for an error, up to a NUL, as C prints them; `resp.error` encodes them back to the same
    bytes."""
    return data.partition(b"\0")[0].decode("utf-8", "surrogateescape")


def session_of(sink: Sink) -> Session:
    """The session of the client that sent the command. Commands about connections are never relayed nor parts of another
    one."""
    assert isinstance(sink, Session), "the command belongs to a connection"
    return sink.client()
