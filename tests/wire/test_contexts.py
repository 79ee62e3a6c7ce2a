"""Contexts and siblings from stock clients and from a shell script (Dynamo, section 4.4)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.wire.cluster import DYN, Client, WireCluster, dyn

SCRIPT = r"""
set -eu
field() { python3 -c 'import json, sys; print(json.load(sys.stdin)[sys.argv[1]])' "$1"; }
status() { "$@" >/dev/null 2>&1 && echo 0 || echo $?; }

echo "missing: $(status dyn get "$KEY")"
dyn set "$KEY" apples >/dev/null
dyn --port "$OTHER_PORT" set "$KEY" pears --json >/dev/null
both=$(dyn get "$KEY" --json)
echo "both: $(echo "$both" | field values)"
context=$(echo "$both" | field context)
dyn set "$KEY" fruit --context "$context" >/dev/null
echo "one: $(dyn --port "$OTHER_PORT" get "$KEY")"
damaged=$(echo "$context" | python3 -c 'print(input().swapcase())')
echo "damaged: $(status dyn set "$KEY" worse --context "$damaged")"
echo "unchanged: $(dyn get "$KEY")"
dyn del "$KEY" --context "$(dyn get "$KEY" --json | field context)" >/dev/null
echo "deleted: $(status dyn get "$KEY")"
echo "usage: $(status dyn set)"
echo "nobody there: $(status dyn --port 1 get "$KEY")"
"""


@pytest.fixture
def clients(cluster: WireCluster) -> list[Client]:
    return [node.client() for node in cluster.nodes]


def _get(client: Client, key: str, *options: str | int) -> tuple[bytes | None, list[bytes]]:
    token, values = client.execute_command("DYN.GET", key, *options)
    return token, sorted(values)


def _set(client: Client, key: str, value: str, *options: str | int | bytes) -> tuple[bytes, int, int]:
    token, acks, hinted = client.execute_command("DYN.SET", key, value, *options)
    return token, acks, hinted


@pytest.mark.parametrize("through", [(0, 0, 0), (0, 1, 2), (2, 1, 0)], ids=str)
def test_two_writers_make_siblings_and_a_context_resolves_them(clients: list[Client], through: tuple[int, ...]) -> None:
    one, other, third = (clients[place] for place in through)
    key = f"contexts:{through}"
    assert _get(third, key) == (None, [])
    _set(one, key, "a")
    _set(other, key, "b")
    token, values = _get(third, key)
    assert values == [b"a", b"b"]
    assert token is not None
    assert token.decode().isascii() and token.decode().isprintable() and b" " not in token
    assert third.get(key) in values, "a plain GET answers one of them"
    _set(third, key, "d")  # its writer has seen neither
    _set(one, key, "c", "CONTEXT", token)
    assert _get(other, key)[1] == [b"c", b"d"], "what the context does not cover stays"
    token, _ = _get(one, key)
    _set(other, key, "e", "CONTEXT", token or b"")
    for client in clients:
        assert _get(client, key, "R", 3)[1] == [b"e"]
    assert third.set(key, "plain")
    assert _get(one, key)[1] == [b"plain"]


def test_siblings_are_listed_and_decided_by_every_node(clients: list[Client], cluster: WireCluster) -> None:
    for number, client in enumerate(clients):
        _set(client, "contexts:listed", f"v{number}")
    for node in cluster.nodes:
        listed = dyn("siblings", "list", "--match", "contexts:list*", "--json", port=node.port)
        assert (listed.returncode, listed.stderr) == (0, b"")
        (key,) = json.loads(listed.stdout)["keys"]
        assert (key["key"], key["type"], key["siblings"], key["hidden"]) == ("contexts:listed", "string", 3, {})
        shown = json.loads(dyn("siblings", "show", "contexts:listed", "--json", port=node.port).stdout)
        assert sorted(shown["values"]) == ["v0", "v1", "v2"] and shown["choices"] == ["string"]
    newest = clients[0].get("contexts:listed")
    _set(clients[1], "contexts:listed", "late")
    late = dyn("siblings", "resolve", "contexts:listed", "--context", shown["context"], port=cluster.nodes[0].port)
    assert late.returncode == 1 and b"was written after this context was read" in late.stderr
    assert dyn("siblings", "resolve", "contexts:listed", port=cluster.nodes[2].port).returncode == 0
    assert newest != b"late" and _get(clients[0], "contexts:listed", "R", 3)[1] == [b"late"]
    again = dyn("siblings", "resolve", "contexts:listed", port=cluster.nodes[1].port)
    assert again.returncode == 1 and b"there is nothing to decide" in again.stderr


def test_a_context_is_spent_once(clients: list[Client]) -> None:
    one, other, _ = clients
    _set(one, "contexts:raced", "a")
    token, _ = _get(other, "contexts:raced")
    assert token is not None
    _set(one, "contexts:raced", "b", "CONTEXT", token)
    _set(other, "contexts:raced", "c", "CONTEXT", token)
    assert _get(one, "contexts:raced")[1] == [b"b", b"c"], "two who have seen the same are concurrent"


def test_del_with_a_context_deletes_what_it_covers(clients: list[Client]) -> None:
    one, other, third = clients
    _set(one, "contexts:del", "a")
    token, _ = _get(other, "contexts:del")
    assert token is not None
    _set(third, "contexts:del", "b")
    other.execute_command("DYN.DEL", "contexts:del", "CONTEXT", token)
    assert _get(one, "contexts:del")[1] == [b"b"]


def test_a_damaged_token_is_refused_and_changes_nothing(clients: list[Client]) -> None:
    one, other, _ = clients
    _set(one, "contexts:damaged", "a")
    token, _ = _get(one, "contexts:damaged")
    assert token is not None
    middle = len(token) // 2
    flipped = bytes([token[middle] ^ 1])
    _set(one, "contexts:elsewhere", "z")
    elsewhere, _ = _get(one, "contexts:elsewhere")
    damaged = [token[:-1], token + b"A", token[:middle] + flipped + token[middle + 1 :], b"", b"!", b"AAAA", elsewhere]
    for wrong in damaged:
        for client in (one, other):
            with pytest.raises(redis.ResponseError, match=r"^BADCONTEXT "):
                client.execute_command("DYN.SET", "contexts:damaged", "x", "CONTEXT", wrong)
            with pytest.raises(redis.ResponseError, match=r"^BADCONTEXT "):
                client.execute_command("DYN.DEL", "contexts:damaged", "CONTEXT", wrong)
    assert _get(other, "contexts:damaged")[1] == [b"a"]


def test_r_and_w_of_a_request(clients: list[Client]) -> None:
    one = clients[0]
    for wanted in (1, 2, 3):
        _, acks, hinted = _set(one, "contexts:quorum", f"{wanted}", "W", wanted)
        assert wanted <= acks <= 3
        assert hinted == 0
        assert len(_get(one, "contexts:quorum", "R", wanted)[1]) == wanted, "each writer had seen nothing"
    for wrong in (0, 4, -1, "x", ""):
        with pytest.raises(redis.ResponseError, match=r"^W "):  # redis-py leaves out the word ERR
            _set(one, "contexts:quorum", "x", "W", wrong)
        with pytest.raises(redis.ResponseError, match=r"^R "):
            _get(one, "contexts:quorum", "R", wrong)
    with pytest.raises(redis.ResponseError, match=r"^syntax error"):
        _set(one, "contexts:quorum", "x", "W")
    with pytest.raises(redis.ResponseError, match=r"^wrong number of arguments"):
        one.execute_command("DYN.SET", "contexts:quorum")


def test_the_quorums_of_a_connection(cluster: WireCluster) -> None:
    with cluster.nodes[0].client(single_connection_client=True) as mine, cluster.nodes[0].client() as other:
        assert mine.execute_command("DYN.QUORUM") == [3, 2, 2]
        assert mine.execute_command("DYN.QUORUM", "R", 1, "W", 3) == [3, 1, 3]
        assert mine.execute_command("DYN.QUORUM", "R", 3) == [3, 3, 3]
        assert _set(mine, "contexts:own", "x")[1] == 3
        with pytest.raises(redis.ResponseError, match=r"^W must be between 1 and 3"):
            mine.execute_command("DYN.QUORUM", "R", 1, "W", 4)
        assert mine.execute_command("DYN.QUORUM") == [3, 3, 3], "refused as a whole"
        assert other.execute_command("DYN.QUORUM") == [3, 2, 2], "another connection has its own"


def test_an_expiry_goes_with_its_sibling(clients: list[Client]) -> None:
    one, other, _ = clients
    _set(one, "contexts:expiring", "stays", "EX", 1000)
    _set(other, "contexts:expiring", "goes", "PXAT", 1)
    assert _get(other, "contexts:expiring")[1] == [b"stays"]


def _script(cluster: WireCluster, key: str, **variables: Any) -> list[str]:
    path = f"{Path(DYN).parent}{os.pathsep}{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {
        **os.environ,
        "PATH": path,
        "DYN_URL": f"redis://127.0.0.1:{cluster.ports[0]}",
        "OTHER_PORT": str(cluster.ports[1]),
        "KEY": key,
    }
    done = subprocess.run(["bash", "-c", SCRIPT], env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_the_same_from_a_shell_script(cluster: WireCluster) -> None:
    assert _script(cluster, "contexts:script") == [
        "missing: 1",
        "both: ['apples', 'pears']",
        "one: fruit",
        "damaged: 1",
        "unchanged: fruit",
        "deleted: 1",
        "usage: 2",
        "nobody there: 3",
    ]


def test_bytes_that_are_not_utf_8_survive_the_command_line(cluster: WireCluster) -> None:
    port = cluster.ports[0]
    value = bytes(byte for byte in range(256) if byte)
    assert dyn("set", b"contexts:\xff", value, port=port).returncode == 0
    got = dyn("get", b"contexts:\xff", "--raw", port=port)
    assert (got.returncode, got.stdout, got.stderr) == (0, value, b"")
    document = dyn("get", b"contexts:\xff", "--json", port=port).stdout
    assert b'"base64"' in document
    piped = dyn("set", "contexts:piped", "-", port=port, input=b"a\0b\r\n")
    assert piped.returncode == 0
    assert cluster.nodes[2].client().get("contexts:piped") == b"a\0b\r\n"
