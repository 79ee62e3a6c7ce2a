"""Small things that commands about connections, servers and clusters share: encoding names, showing bytes, the asker."""

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
    """Bytes of a client for an error's text, where `resp.error` turns them into what they were; as C does, up to a NUL."""
    return data.partition(b"\0")[0].decode("utf-8", "surrogateescape")


def session_of(sink: Sink) -> Session:
    """The connection that gave the command: one that is about its connection is never relayed nor part of another."""
    assert isinstance(sink, Session), "the command belongs to a connection"
    return sink
