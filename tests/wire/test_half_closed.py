"""A client that has sent all may still read, or may have closed because it wants no replies: what it has sent is done."""

from __future__ import annotations

import socket

from protocol import resp
from tests.wire.cluster import WireCluster, wait_for
from tests.wire.raw import exchange, raw

COUNT = 3000  # more than begin at once
KEYS = 50


def test_a_client_that_has_shut_its_side_gets_its_replies(cluster: WireCluster) -> None:
    pairs = [(f"half:{number % KEYS}", str(number)) for number in range(COUNT)]
    requests = [resp.command("SET", *pair) + resp.command("GET", pair[0]) for pair in pairs]
    replies = [b"+OK\r\n$%d\r\n%s\r\n" % (len(value), value.encode()) for _, value in pairs]
    for port in cluster.ports:
        with raw(port) as connection:
            connection.sendall(b"PING\r\n")
            connection.shutdown(socket.SHUT_WR)
            assert exchange(connection, b"") == b"+PONG\r\n"
    with raw(cluster.ports[0]) as connection:
        connection.sendall(b"".join(requests))
        connection.shutdown(socket.SHUT_WR)
        assert exchange(connection, b"") == b"".join(replies)


def test_commands_of_a_client_that_wants_no_replies_are_done_though_it_has_closed(cluster: WireCluster) -> None:
    client = cluster.nodes[1].client()
    with raw(cluster.ports[0]) as connection:
        connection.sendall(b"CLIENT REPLY OFF\r\n" + resp.command("INCR", "half:sum") * COUNT)
    wait_for(lambda: client.get("half:sum") == b"%d" % COUNT, "all commands are done")


def test_the_end_of_a_waiting_client_takes_nothing(cluster: WireCluster) -> None:
    client = cluster.nodes[1].client()
    for waiting in (b"BLPOP half:queue 0\r\n", b"SUBSCRIBE half:news\r\nPING\r\n", b"MONITOR\r\n"):
        with raw(cluster.ports[0]) as connection:
            connection.sendall(b"CLIENT SETNAME half-waiting\r\n" + waiting)
            listed = cluster.nodes[0].client()
            wait_for(lambda found=listed: "half-waiting" in str(found.client_list()), "it is there")
            connection.shutdown(socket.SHUT_WR)
            exchange(connection, b"")
    client.rpush("half:queue", "kept")
    assert client.lrange("half:queue", 0, -1) == [b"kept"]


def test_what_a_later_blocking_command_pops_is_told_once(cluster: WireCluster) -> None:
    client = cluster.nodes[1].client()
    client.rpush("half:jobs", "job")
    with raw(cluster.ports[0]) as connection:
        before = resp.command("INCR", "half:before") * COUNT
        connection.sendall(before + b"BLPOP half:jobs 0\r\nINCR half:behind\r\n")
        connection.shutdown(socket.SHUT_WR)
        said = exchange(connection, b"")
    assert said.endswith(b"$3\r\njob\r\n:1\r\n")
    client.rpush("half:jobs", "other")
    assert client.lrange("half:jobs", 0, -1) == [b"other"]
