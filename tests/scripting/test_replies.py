"""What scripts compute and how it becomes a reply: the same bytes as redis-server 7.0, in RESP2 and RESP3."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest

from tests.scripting.cases import COMMANDS, ERRORS, LIBRARIES, REPLIES
from tests.scripting.running import Scripts
from tests.wire.differential.servers import Asker, redis_server, redis_version

pytestmark = pytest.mark.skipif(redis_version() != "7.0", reason="redis-server 7.0 is not installed")
KEYS = [b"{k}1", b"{k}2"]


@pytest.fixture(scope="module")
def redis_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A redis-server for the module."""
    with redis_server(tmp_path_factory.mktemp("redis")) as port:
        yield port


class _Both:
    """The two runs of a script: in redis-server, and here with commands that the same server runs."""

    def __init__(self, port: int, resp3: bool) -> None:
        self.asker = Asker(port, 3 if resp3 else 2)
        self.inner = {False: Asker(port, 2), True: Asker(port, 3)}
        self.scripts = Scripts()
        self.resp3 = resp3
        self.asker.ask((b"FLUSHALL",))

    def call(self, args: list[bytes], resp3: bool) -> bytes:
        """Runs a command of our script."""
        reply = self.inner[resp3].ask(tuple(args))
        return b"-ERR Unknown Redis command called from script\r\n" if b"unknown command" in reply else reply

    def theirs(self, text: str) -> bytes:
        """The reply of redis-server."""
        return self.asker.ask((b"EVAL", text.encode("latin-1"), b"%d" % len(KEYS), *KEYS, b"arg"))

    def ours(self, text: str) -> bytes:
        """The reply of our interpreter."""
        return self.scripts.run(text, KEYS, [b"arg"], self.call, resp3=self.resp3)

    def close(self) -> None:
        """Ends the connections."""
        for asker in (self.asker, *self.inner.values()):
            asker.close()


def _compare(port: int, resp3: bool, scripts: Sequence[str]) -> None:
    both = _Both(port, resp3)
    try:
        wrong = [
            (each, theirs, ours) for each in scripts if (theirs := both.theirs(each)) != (ours := _ours(both, each))
        ]
    finally:
        both.close()
    assert not wrong, "\n".join([f"{each!r}\n  redis {theirs!r}\n  ours  {ours!r}" for each, theirs, ours in wrong])


def _ours(both: _Both, text: str) -> bytes:
    from server.core.scripts.engine import ScriptError

    try:
        return both.ours(text)
    except ScriptError as error:
        return b"-%b\r\n" % error.args[0]


@pytest.mark.parametrize("resp3", [False, True], ids=["resp2", "resp3"])
@pytest.mark.parametrize("group", ["replies", "errors", "commands", "libraries"])
def test_scripts_reply_as_in_redis(redis_port: int, group: str, resp3: bool) -> None:
    scripts = {"replies": REPLIES, "errors": ERRORS, "libraries": LIBRARIES}.get(group)
    if scripts is not None:
        _compare(redis_port, resp3, scripts)
        return
    # These change what they find: redis-server runs all of them, then ours do on an empty server.
    both = _Both(redis_port, resp3)
    theirs = [both.theirs(each) for each in COMMANDS]
    both.asker.ask((b"FLUSHALL",))
    ours = [_ours(both, each) for each in COMMANDS]
    both.close()
    wrong = [row for row in zip(COMMANDS, theirs, ours, strict=True) if row[1] != row[2]]
    assert not wrong, "\n".join([f"{each!r}\n  redis {mine!r}\n  ours  {other!r}" for each, mine, other in wrong])
