"""Users of a cluster of three nodes: a change on one is in force on all, is kept, and merges after a partition."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from protocol import resp
from tests.ports import free_ports
from tests.wire.cluster import WireCluster, WireNode, connect, dyn, wait_for
from tests.wire.raw import exchange, raw

NODES = 3


def _admin(node: WireNode) -> redis.Redis:
    """The operator on the node's machine, who needs no user's password."""
    secret = (node.directory / "operator").read_text().strip()
    return connect(node.port, username="dyn.local", password=secret)


def _ask(node: WireNode, *words: bytes) -> bytes:
    """The reply to a client that has not logged in."""
    with raw(node.port) as connection:
        return exchange(connection, resp.command(*words) + resp.command(b"QUIT")).removesuffix(b"+OK\r\n")


def _is_let_in(node: WireNode, user: str, password: str) -> bool:
    return _ask(node, b"AUTH", user.encode(), password.encode()) == b"+OK\r\n"


def _list(node: WireNode) -> list[bytes]:
    with _admin(node) as admin:
        found: list[bytes] = admin.execute_command("ACL", "LIST")
        return found


def _agree(cluster: WireCluster) -> bool:
    lists = [_list(node) for node in cluster.nodes]
    return all(each == lists[0] for each in lists)


@pytest.fixture
def users(make_cluster: Callable[..., WireCluster]) -> WireCluster:
    """Three nodes with a user that may only read keys of the application, made on the first node."""
    cluster = make_cluster()
    with _admin(cluster.nodes[0]) as admin:
        assert admin.execute_command("ACL", "SETUSER", "app", "on", ">let me in", "~app:*", "+get")
    wait_for(lambda: all(_is_let_in(node, "app", "let me in") for node in cluster.nodes), "all nodes know the user")
    return cluster


def test_a_user_is_in_force_on_all_nodes_and_kept_over_a_restart_of_all(users: WireCluster) -> None:
    with _admin(users.nodes[0]) as admin:
        admin.set("app:1", "one")
        admin.set("other", "two")
    for node in users.nodes:
        with connect(node.port, username="app", password="let me in") as app:
            assert app.get("app:1") == b"one"
            for words in (("GET", "other"), ("SET", "app:1", "x"), ("DYN.CLUSTER", "STATUS"), ("ACL", "LIST")):
                with pytest.raises(redis.exceptions.NoPermissionError):
                    app.execute_command(*words)
    before = _list(users.nodes[0])
    users.stop()
    users.start()
    assert [_list(node) for node in users.nodes] == [before] * NODES
    assert not _is_let_in(users.nodes[2], "app", "wrong")
    assert _is_let_in(users.nodes[2], "app", "let me in")


def test_deleting_a_user_closes_its_connections_on_all_nodes(users: WireCluster) -> None:
    apps = [connect(node.port, username="app", password="let me in") for node in users.nodes]
    for app in apps:
        assert app.get("app:none") is None
    with _admin(users.nodes[1]) as admin:
        assert admin.execute_command("ACL", "DELUSER", "app") == 1
    for app, node in zip(apps, users.nodes, strict=True):
        wait_for(lambda node=node: b"user=app" not in _clients(node), f"{node.name} has closed the connection")
        with pytest.raises(redis.exceptions.AuthenticationError):
            app.get("app:none")  # the library connects anew
        app.close()


def _clients(node: WireNode) -> bytes:
    with _admin(node) as admin:
        lines: bytes = admin.execute_command("CLIENT LIST", NEVER_DECODE=True)
        return lines if isinstance(lines, bytes) else repr(lines).encode()


def test_changes_while_a_node_is_away_merge_with_its_own(users: WireCluster) -> None:
    """Two operators: one changes users on n1 while n3 is down, one on n3 while the others are."""
    first, second, third = users.nodes
    third.stop()
    with _admin(first) as admin:
        admin.execute_command("ACL", "SETUSER", "ann", "on", ">a", "+@read")
        admin.execute_command("ACL", "DELUSER", "app")
    first.stop()
    second.stop()
    third.start()
    wait_for(third.serves, "n3 serves")
    assert _is_let_in(third, "app", "let me in"), "it has not heard of the deletion"
    with _admin(third) as admin:
        admin.execute_command("ACL", "SETUSER", "bob", "on", ">b", "+@write")
    first.start()
    second.start()
    for node in (first, second):
        wait_for(node.serves, f"{node.name} serves")
    wait_for(lambda: _agree(users), "all nodes agree")
    names = [line.split()[1] for line in _list(third)]
    assert names == [b"ann", b"bob", b"default"], "both changes are there, and the deleted user is not back"


def test_a_password_for_everybody_leaves_nobody_outside_of_the_operators_reach(users: WireCluster) -> None:
    with _admin(users.nodes[0]) as admin:
        admin.execute_command("CONFIG", "SET", "requirepass", "open sesame")
    wait_for(lambda: not any(_is_open(node) for node in users.nodes), "all nodes want a password")
    for node in users.nodes:
        assert _is_let_in(node, "default", "open sesame")
    with raw(users.ports[0]) as connection:
        head = b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$60000000\r\n"
        assert b"has not logged in" in exchange(connection, head + bytes(1 << 20)), "it holds no memory"
    with raw(users.ports[0]) as connection:  # but whoever logs in may go on at once
        said = resp.command(b"AUTH", b"open sesame") + resp.command(b"SET", b"large", bytes(1 << 20)) + b"QUIT\r\n"
        assert exchange(connection, said) == b"+OK\r\n" * 3
    joined = users.add("--join", f"127.0.0.1:{users.nodes[0].port}")
    assert (joined.directory / "operator").stat().st_mode & 0o777 == 0o600
    _assert_unlogged(users, "open sesame", "let me in")


def _is_open(node: WireNode) -> bool:
    return _ask(node, b"PING") == b"+PONG\r\n"


def _assert_unlogged(cluster: WireCluster, *secrets: str) -> None:
    for node in cluster.nodes:
        log = Path(node.directory / "log").read_text() if (node.directory / "log").exists() else node.log
        for secret in (*secrets, (node.directory / "operator").read_text().strip()):
            assert secret not in log


def test_dyn_up_and_dyn_work_where_everybody_has_to_log_in(tmp_path: Path) -> None:
    home = tmp_path / "home"
    where = ["--dir", home, "--base-port", str(free_ports(2))]
    try:
        made = json.loads(dyn("up", "--nodes", "2", *where, "--detach", "--json").stdout)
        port = int(made["nodes"][0]["address"].rpartition(":")[2])
        with connect(port) as client:
            client.execute_command("ACL", "SETUSER", "ops", "on", ">long secret", "~*", "+@all")
            client.execute_command("ACL", "SETUSER", "default", "off")
        refused = dyn("set", "k", "v", port=port)
        assert refused.returncode == 1 and b"NOAUTH" in refused.stderr and b"--password-file" in refused.stderr
        (tmp_path / "password").write_text("long secret\n")
        login = ["--user", "ops", "--password-file", tmp_path / "password"]
        assert dyn(*login, "set", "k", "v", port=port).returncode == 0
        assert dyn("down", "--dir", home).returncode == 0
        again = dyn("up", *where, "--detach")
        assert again.returncode == 0, again.stderr
        url = {**os.environ, "DYN_URL": f"redis://ops:long%20secret@127.0.0.1:{port}"}
        assert dyn("get", "k", env=url).stdout == b"v\n"
        local = ["--user", "dyn.local", "--password-file", home / "n1" / "operator"]
        status = [*local, "cluster", "status", "--json"]
        wait_for(lambda: json.loads(dyn(*status, port=port).stdout)["verdict"] == "healthy", "a healthy cluster")
        wrong = dyn("get", "k", env={**url, "DYN_PASSWORD": "wrong one"})
        assert wrong.returncode == 1 and b"WRONGPASS" in wrong.stderr and b"wrong one" not in wrong.stderr
        log = (home / "n1" / "log").read_text()
        assert "long secret" not in log and "ACL SETUSER ops (not shown)" in log
    finally:
        dyn("down", "--dir", home)


def test_a_fresh_node_learns_the_users_before_it_serves_data(users: WireCluster) -> None:
    with _admin(users.nodes[0]) as admin:
        admin.execute_command("ACL", "SETUSER", "default", "off")
    fresh = users.add()
    with connect(fresh.port) as client:
        myself = client.execute_command("DYN.CLUSTER", "MYSELF")
    early = socket.create_connection(("127.0.0.1", fresh.port), 10)
    assert _answer(early, b"PING") == b"+PONG\r\n"
    with _admin(users.nodes[0]) as admin:
        admin.execute_command("DYN.CLUSTER", "JOIN", myself)
        plan = admin.execute_command("DYN.CLUSTER", "PLAN")
        epoch = json.loads(plan)["epoch"]
        admin.execute_command("DYN.CLUSTER", "COMMIT", epoch)

    def is_closed_or_no_member() -> bool:
        reply = _ask(fresh, b"GET", b"x")
        assert reply.startswith((b"-NOAUTH", b"-ERR this node is not part of a cluster")), reply
        return reply.startswith(b"-NOAUTH")

    wait_for(is_closed_or_no_member, "the fresh node wants a password")
    assert _answer(early, b"GET", b"x").startswith(b"-NOAUTH"), "nobody who came in before may stay"
    early.close()


def _answer(connection: socket.socket, *words: bytes) -> bytes:
    connection.sendall(resp.command(*words))
    return connection.recv(1024)
