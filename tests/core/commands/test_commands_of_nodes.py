"""Commands that only nodes send each other do not exist for a client, in whatever way it sends them.

Theory. They write records of any content, and run commands that were checked at another node. Until they were hidden from
MULTI, a transaction ran them: with a key of its own a user reached every key of the slot by DYN.EXEC.
"""

from __future__ import annotations

import pytest

from server.core.commands.registry import commands_by_name, commands_for_nodes
from server.core.node import Node
from server.scripting.runtime import Runtime
from tests.core.commands.talking import CONFIG, Client, make_node

CALLS = {  # with the arguments of each that its arity wants
    name: f"{name.upper()} k{' 1' * (abs(commands_by_name()[name.encode()].arity) - 2)}"
    for name in sorted(commands_for_nodes())
}
EXECABORT = b"-EXECABORT Transaction discarded because of previous errors.\r\n"


@pytest.fixture
def node() -> Node:
    """A node that serves all keys alone, and runs Lua."""
    made = make_node(1, CONFIG)
    made.services.scripts.make_engine = lambda: Runtime(64 << 20, lambda: 0.0)
    return made


def test_they_are_known() -> None:
    assert {"dyn.record", "dyn.replace", "dyn.exec", "dyn.eval", "dyn.try", "dyn.putback", "dyn.lpush"} <= set(CALLS)
    assert not {"dyn.get", "dyn.set", "dyn.cluster", "post", "host:"} & set(CALLS)


@pytest.mark.parametrize("name", list(CALLS))
@pytest.mark.parametrize("setup", ["PING", "SELECT 1", "HELLO 3", "CLIENT TRACKING ON", "SUBSCRIBE x"])
def test_a_client_reaches_none(name: str, setup: str, node: Node) -> None:
    client = Client(node)
    client.raw("SET k v", "RPUSH l v", setup)
    unknown = f"-ERR unknown command '{name.upper()}', with args beginning with: ".encode()
    line = CALLS[name]
    assert client.raw(line).startswith(unknown)
    assert client.raw(line.lower()).startswith(unknown.replace(name.upper().encode(), name.encode()))
    in_a_pipeline = client.raw(line, line, "SET k v", line, line)
    assert in_a_pipeline.count(unknown) == 4, "also in the lane of the key"
    if setup == "SUBSCRIBE x":
        return
    for others in ([], ["GET k"], ["GET k", "GET other"]):
        said = client.raw("MULTI", *others, line, "EXEC")
        assert unknown in said and said.endswith(EXECABORT)
    words = ", ".join([f"'{word}'" for word in line.split()])
    assert client.raw_words([b"EVAL", f"return redis.call({words})".encode(), b"1", b"k"]).startswith(b"-ERR ")
    assert client.raw("GET k") == (b"$1\r\nv\r\n")


def test_no_rights_make_them_known(node: Node) -> None:
    admin, client = Client(node), Client(node)
    admin.ask("ACL SETUSER app on nopass ~app:* +@all")
    admin.raw("SET {app:}secret v")
    client.raw("AUTH app x")
    for name, line in CALLS.items():
        assert client.error(line.replace(" k", " app:k")).startswith(f"ERR unknown command '{name.upper()}'")
    assert client.raw("MULTI", "DYN.EXEC app: 0 2 GET {app:}secret", "EXEC").endswith(EXECABORT)
