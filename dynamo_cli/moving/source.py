"""Another Redis server, as the source of an import: its databases, its keys page by page, and what changes meanwhile.

Changes come as keyspace notifications. They are sent at most once, so an import that loses their connection cannot follow
any more and has to begin again. What they tell is which key was written, and not what: the key is read anew.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, NamedTuple
from urllib.parse import unquote

from dynamo_cli.addresses import database_in_url, is_encrypted, parse_url
from dynamo_cli.client import Client, Reply
from dynamo_cli.failures import Failure, Refused
from dynamo_cli.logins import USER_DEFAULT, Login
from dynamo_cli.moving.page_size import PAGE_KEYS, PageSize
from dynamo_cli.moving.rdb_values import EMPTY_STREAMS, STREAMS, Scanner, skip_stream
from dynamo_cli.tls_client import Tls
from protocol.databases import DATABASES

_STRING: Final = b"string"
_COLLECTIONS: Final = (b"list", b"set", b"zset", b"hash", b"stream")
_READS: Final = {_STRING: b"GET"} | dict.fromkeys(_COLLECTIONS, b"DUMP")  # by type
_EVENTS: Final = b"__keyevent@"
_PATTERN: Final = "__keyevent@*__:*"
Changed = dict[tuple[int, bytes], None]  # database and key, in the order of the changes


class Dumped(NamedTuple):
    """A key as the source has it: `text` of a string, else `payload`. It has neither if it is gone, or cannot be imported:
    then `left_out` says what it is. `parts_left_out` says what cannot be imported of a value that can be.
    """

    key: bytes
    payload: bytes
    text: bytes | None
    expires_at_ms: int
    left_out: str
    parts_left_out: tuple[str, ...]

    @property
    def is_importable(self) -> bool:
        """Whether there is a value."""
        return self.text is not None or bool(self.payload)


class Source:
    """The server that a URL names. Raises WrongUsage, NotReached and Refused."""

    def __init__(self, url: str, timeout_s: float) -> None:
        self._url = url
        self._timeout_s = timeout_s
        self.address = parse_url(url)
        path = url.partition("://")[2].rpartition("@")[2].partition("/")[2]
        self._only = database_in_url(url) if path else None
        self._clients: dict[int, Client] = {}
        self._has_expiretime = True
        self._page_size = PageSize()
        self.run_id = self._fact("server", "run_id")

    def _connect(self) -> Client:
        before, at, _ = self._url.partition("://")[2].rpartition("@")
        user, _, password = before.partition(":")
        login = Login(unquote(user) or USER_DEFAULT, unquote(password)) if at else None
        client = Client(self.address, self._timeout_s, Tls() if is_encrypted(self._url) else None, lambda: login)
        client.call("PING")
        return client

    def client(self, database: int) -> Client:
        """The connection to a database."""
        client = self._clients.get(database)
        if client is None:
            client = self._clients[database] = self._connect()
            if database:
                client.call("SELECT", database)
        return client

    def close(self) -> None:
        """Closes all connections."""
        for client in self._clients.values():
            client.close()

    def _facts(self, section: str) -> dict[str, str]:
        reply = self.client(self._only or 0).call("INFO", section)
        text = reply.decode("utf-8", "replace") if isinstance(reply, bytes) else ""
        return dict(line.split(":", 1) for line in text.split("\r\n") if ":" in line)

    def _fact(self, section: str, name: str) -> str:
        return self._facts(section).get(name, "")

    def databases(self) -> dict[int, int]:
        """The databases to import, and how many keys each has."""
        facts = {
            name: value for name, value in self._facts("keyspace").items() if name[:2] == "db" and name[2:].isdigit()
        }
        sizes = {
            int(name[2:]): int(value.partition("keys=")[2].partition(",")[0] or 0) for name, value in facts.items()
        }
        return {database: size for database, size in sorted(sizes.items()) if self._only in (None, database)}

    def pages(self, database: int, cursor: bytes = b"0") -> Iterator[tuple[bytes, list[bytes]]]:
        """The keys from a cursor on: the cursor behind them, which is 0 at the end, and a page of them.

        Each key comes once: SCAN of a Redis whose table grows or shrinks may answer it twice. So the keys are held, some
        100 bytes for each.
        """
        client = self.client(database)
        seen: set[bytes] = set()
        while True:
            match client.call("SCAN", cursor, "COUNT", PAGE_KEYS):
                case [bytes() as cursor, list() as keys]:
                    unseen = [key for key in dict.fromkeys(keys) if key not in seen]
                    seen.update(unseen)
                    yield cursor, unseen
                case _:
                    raise client.nonsense("SCAN", "not [cursor, [key, ...]]")
            if cursor == b"0":
                return

    def functions(self) -> int:
        """How many libraries of functions it has; 0 if it does not say."""
        try:
            libraries = self.client(self._only or 0).call("FUNCTION", "LIST")
        except Refused:  # they came with Redis 7.0
            return 0
        return len(libraries) if isinstance(libraries, list) else 0

    def dump(self, database: int, keys: Sequence[bytes]) -> Iterator[list[Dumped]]:
        """The keys as they are now: fewer at a time, the larger they are."""
        for part in self._page_size.parts(keys):
            dumped = self._dump(database, part)
            yield dumped
            self._page_size.adapt(sum([len(each.payload) + len(each.text or b"") for each in dumped]))

    def _dump(self, database: int, keys: Sequence[bytes]) -> list[Dumped]:
        """The keys as they are now. Strings are read by GET: that spares both servers the work of compression."""
        client = self.client(database)
        kinds = _sound(client.pipeline([(b"TYPE", key) for key in keys]))
        expiry = b"PEXPIRETIME" if self._has_expiretime else b"PTTL"
        names = [each for kind in kinds for each in (expiry, _READS.get(kind, b"TYPE"))]
        replies = client.pipeline([(name, keys[number // 2]) for number, name in enumerate(names)])
        if self._has_expiretime and any(map(_is_unknown, replies[::2])):
            self._has_expiretime = False  # it came with Redis 7.0
            return self._dump(database, keys)
        now_ms = 0 if self._has_expiretime else int(time.time() * 1000)
        found = zip(keys, kinds, _sound(replies[::2]), replies[1::2], strict=True)
        return [self._dumped(database, key, kind, now_ms, ms, value) for key, kind, ms, value in found]

    def _dumped(
        self, database: int, key: bytes, kind: bytes, now_ms: int, expiry_ms: int, value: Reply | Refused
    ) -> Dumped:
        if isinstance(value, Refused):
            if value.code == "WRONGTYPE":  # it was a string a moment ago
                return self._dump(database, [key])[0]
            raise value
        expires_at_ms = expiry_ms + now_ms if expiry_ms > 0 else 0
        if kind not in _READS or not isinstance(value, bytes):
            is_gone = value is None or kind == b"none"
            return Dumped(key, b"", None, 0, "" if is_gone else kind.decode("utf-8", "replace"), ())
        if kind == _STRING:
            return Dumped(key, b"", value, expires_at_ms, "", ())
        parts_left_out: tuple[str, ...] = ()
        if value[0] in STREAMS:
            entries, parts_left_out = skip_stream(value[0], Scanner(value, 1))
            if not entries:
                return Dumped(key, b"", None, 0, EMPTY_STREAMS, ())
        return Dumped(key, value, None, expires_at_ms, "", parts_left_out)

    def follow(self) -> Notifications:
        """Turns keyspace notifications on, and subscribes to them."""
        return Notifications(self._connect, self._only)


def _is_unknown(reply: Reply | Refused) -> bool:
    return isinstance(reply, Refused) and "unknown command" in reply.reply


def _sound(replies: Sequence[Reply | Refused]) -> list[Any]:
    """The replies. Raises what was refused."""
    for reply in replies:
        if isinstance(reply, Refused):
            raise reply
    return list(replies)


class Notifications:
    """A subscription to what is written. `only`: to this database, None for all."""

    def __init__(self, connect: Callable[[], Client], only: int | None) -> None:
        self._only = only
        self._settings = connect()
        self.before = self._read_setting()  # the setting that close() brings back
        self._settings.call("CONFIG", "SET", "notify-keyspace-events", "AKE")
        self._client = connect()
        self._client.call("PSUBSCRIBE", _PATTERN)

    def _read_setting(self) -> bytes:
        try:
            reply = self._settings.call("CONFIG", "GET", "notify-keyspace-events")
        except Refused as refused:
            raise Failure(
                f"{self._settings.address} does not let its notifications be turned on: {refused.reply}",
                "set notify-keyspace-events to AKE there, or import without --follow while nobody writes",
            ) from None
        return reply[1] if isinstance(reply, list) and len(reply) == 2 and isinstance(reply[1], bytes) else b""

    def drain(self, changed: Changed, wait_s: float = 0.0) -> None:
        """Adds the keys that were written since. Waits so long for the first one. Raises NotReached."""
        while (message := self._client.pushed(wait_s)) is not None:
            wait_s = 0.0
            match message:
                case [b"pmessage", _, bytes() as channel, bytes() as key] if channel.startswith(_EVENTS):
                    database = int(channel[len(_EVENTS) : channel.index(b"__", len(_EVENTS))])
                    if self._only in (None, database) and database < DATABASES:
                        changed.pop((database, key), None)
                        changed[database, key] = None

    def close(self) -> None:
        """Ends the subscription, and makes the setting what it was. Raises NotReached and Refused."""
        self._client.close()
        self._settings.call("CONFIG", "SET", "notify-keyspace-events", self.before)
        self._settings.close()
