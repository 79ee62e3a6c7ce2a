"""Clients and peers that break the rules get a protocol error or a closed connection; memory stays bounded by named
limits, and everybody else is served.
"""

from __future__ import annotations

import random
import resource
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

import pytest
from xxhash import xxh3_64_digest

from protocol import resp
from protocol.frames import encode_frame
from server.core.records.records import storage_key_of
from server.core.records.versions import supersede
from tests.wire.cluster import WireCluster, WireNode, wait_for
from tests.wire.peering import proven
from tests.wire.raw import exchange, is_closed, raw, read_exactly

MIB = 1 << 20
IDLE_CLIENTS = 1000
SOFT_FILES = 1024  # what a login shell usually has
CONFIG = f"client_buffers_bytes_max = {32 * MIB}\nrequest_bytes_max = {16 * MIB}\nvalue_bytes_max = {2 * MIB}\n"
CONFIG += f"values_in_flight_bytes_max = {256 * MIB}\n"  # more than these tests send, so that nobody is made to wait

# What is sent, and what the last line of the answer has to say.
MALFORMED = {
    "an oversized bulk": (b"*2\r\n$3\r\nGET\r\n$99999999999\r\n", b"invalid bulk length"),
    "a bulk over the limit": (b"*2\r\n$3\r\nGET\r\n$%d\r\n" % (16 * MIB), b"too big"),
    "a bulk length of many digits": (b"*1\r\n$" + b"9" * 5000 + b"\r\n", b"invalid bulk length"),
    "a negative bulk": (b"*2\r\n$3\r\nGET\r\n$-5\r\n", b"invalid bulk length"),
    "a null bulk": (b"*2\r\n$3\r\nGET\r\n$-1\r\n", b"invalid bulk length"),
    "no number": (b"*1\r\n$x\r\n", b"invalid bulk length"),
    "an oversized array": (b"*2147483648\r\n", b"invalid multibulk length"),
    "too many arguments": (b"*2147483647\r\n", b"too many arguments: arguments_max is 1048576"),
    "an array length of many digits": (b"*" + b"1" * 5000 + b"\r\n", b"invalid multibulk length"),
    "an array of no length": (b"*\r\n$1\r\n", b"invalid multibulk length"),
    "an integer in a command": (b"*2\r\n$3\r\nGET\r\n:1\r\n", b"expected '$', got ':'"),
    "a null in a command": (b"*2\r\n$3\r\nGET\r\n_\r\n", b"expected '$', got '_'"),
    "a map": (b"%1\r\n$3\r\nGET\r\n$1\r\nk\r\n", b"expected '*', got '%'"),
    "a reply": (b"+OK\r\n", b"expected '*', got '+'"),
    "nested arrays": (b"*1\r\n" * 250_000, b"expected '$', got '*'"),
    "nested maps": (b"*1\r\n" + b"%1\r\n" * 250_000, b"expected '$', got '%'"),
    "an endless line": (b"x" * (4 * MIB), b"too big inline request"),
    "unbalanced quotes": (b'SET k "half\r\n', b"unbalanced quotes"),
    "a good command before the bad one": (b"*1\r\n$4\r\nPING\r\n*1\r\n$-1\r\n", b"invalid bulk length"),
}


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WireCluster]:
    """Three nodes with small limits, started as from a login shell: with few files allowed unless asked for more."""
    cluster = WireCluster(tmp_path_factory.mktemp("strict"), config=CONFIG)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (SOFT_FILES, hard))
        cluster.form()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        yield cluster
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        cluster.dispose()


@contextmanager
def _others_served(cluster: WireCluster, growth_mib: float) -> Iterator[None]:
    """Within, and afterwards, nobody else notices; no node's memory has grown by more than so much at the end of it."""
    before = {node.name: node.resident_mib() for node in cluster.nodes}
    with ExitStack() as stack:
        clients = [stack.enter_context(node.client()) for node in cluster.nodes]
        _serve(clients)
        yield
        _serve(clients)
        grown = {node.name: node.resident_mib() - before[node.name] for node in cluster.nodes}
        assert max(grown.values()) < growth_mib, grown
    cluster.wait_healthy()
    cluster.assert_logs_clean()


def _serve(clients: list[object]) -> None:
    for number, client in enumerate(clients):
        for key in (f"served:{number}", f"served:{number}:again"):
            assert client.set(key, key)  # type: ignore[attr-defined]
            assert clients[number - 1].get(key) == key.encode()  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", MALFORMED)
def test_a_protocol_error_and_a_closed_connection(strict: WireCluster, kind: str) -> None:
    data, complaint = MALFORMED[kind]
    with _others_served(strict, growth_mib=64):
        with raw(strict.ports[0]) as connection:
            said = exchange(connection, data)
        last = said.split(b"\r\n")[-2] if said else b""
        # A server that closes with unread bytes before it resets the connection, which may overtake its last words.
        assert last.startswith(b"-ERR Protocol error: ") or (not said and len(data) > 100_000), said[:200]
        assert complaint in last or not said


def test_what_came_before_the_error_is_answered(strict: WireCluster) -> None:
    good = resp.command("SET", "before", "1") + resp.command("GET", "before") + b"PING\r\n*0\r\n*-1\r\n\r\nPING x\r\n"
    with raw(strict.ports[1]) as connection:
        said = exchange(connection, good + b"*1\r\n$-1\r\n" + resp.command("SET", "before", "2"))
    assert said.startswith(b"+OK\r\n$1\r\n1\r\n+PONG\r\n$1\r\nx\r\n-ERR Protocol error: ")
    assert said.count(b"\r\n") == 7
    assert strict.nodes[0].client().get("before") == b"1"


def test_binary_junk(strict: WireCluster) -> None:
    rng = random.Random(7)
    with _others_served(strict, growth_mib=64):
        for number in range(60):
            junk = rng.randbytes(rng.choice((10, 1000, 100_000)))
            if number % 3 == 0:
                junk = rng.choice((b"*", b"$", b"*3\r\n", b"*2\r\n$3\r\nGET\r\n$50\r\n")) + junk
            with raw(strict.nodes[number % 3].port) as connection:
                connection.sendall(junk[:10_000])
                connection.shutdown(socket.SHUT_WR)
                exchange(connection, b"")


def test_half_frames_are_waited_for_and_forgotten_with_their_client(strict: WireCluster) -> None:
    whole = resp.command("SET", "half", "whole")
    with _others_served(strict, growth_mib=64), ExitStack() as stack:
        halves = [stack.enter_context(raw(strict.ports[0])) for _ in whole]
        for size, connection in enumerate(halves):
            connection.sendall(whole[:size])
        for size, connection in list(enumerate(halves))[::2]:
            connection.sendall(whole[size:])
            assert read_exactly(connection, 5) == b"+OK\r\n"
    assert strict.nodes[1].client().get("half") == b"whole"


def test_slow_clients_with_large_requests_are_bounded_together(strict: WireCluster) -> None:
    """24 clients drip requests of 12 MiB: together more than client_buffers_bytes_max, so some are cut."""
    with _others_served(strict, growth_mib=32 + 96), ExitStack() as stack:
        slow = [stack.enter_context(raw(strict.ports[0])) for _ in range(24)]
        for connection in slow:
            connection.sendall(b"*3\r\n$3\r\nSET\r\n$4\r\nslow\r\n$%d\r\n" % (12 * MIB))
        chunk = b"x" * (256 << 10)
        for _ in range(20):
            for connection in slow:
                if not is_closed(connection):
                    _send_or_lose(connection, chunk)
        wait_for(lambda: sum(map(is_closed, slow)) >= 12, "the nodes to cut those that are over the limit")
        strict.nodes[0].client().ping()
        assert strict.nodes[0].resident_mib() < 400
        left = [connection for connection in slow if not is_closed(connection)]
        assert left, "those within the limit go on"


def _send_or_lose(connection: socket.socket, data: bytes) -> None:
    try:
        connection.sendall(data)
    except ConnectionError:
        return


def test_a_slow_loris_holds_nobody_up(strict: WireCluster) -> None:
    request = resp.command("SET", "loris", "x" * 40)
    with _others_served(strict, growth_mib=64), ExitStack() as stack:
        slow = [stack.enter_context(raw(strict.nodes[number % 3].port)) for number in range(60)]
        for place in range(len(request)):
            for connection in slow:
                connection.sendall(request[place : place + 1])
        for connection in slow:
            assert read_exactly(connection, 5) == b"+OK\r\n"


def test_1000_idle_connections(strict: WireCluster) -> None:
    node = strict.nodes[0]
    with _others_served(strict, growth_mib=96), ExitStack() as stack:
        idle = [stack.enter_context(raw(node.port)) for _ in range(IDLE_CLIENTS)]
        for connection in idle[::2]:
            connection.sendall(b"*2\r\n$4\r\nECHO\r\n$5\r\nhel")
        with node.client() as client:
            wait_for(lambda: client.info("clients")["connected_clients"] > IDLE_CLIENTS, "all are connected")
            for number in range(200):
                assert client.set(f"idle:{number}", number)
                assert client.get(f"idle:{number}") == b"%d" % number
        for connection in idle[::2]:
            connection.sendall(b"lo\r\n")
        for connection in idle[::2]:
            assert read_exactly(connection, 11) == b"$5\r\nhello\r\n"
    with node.client() as client:
        wait_for(lambda: client.info("clients")["connected_clients"] < 20, "they are forgotten")


def test_a_client_that_never_reads(strict: WireCluster) -> None:
    """It asks for two thousand MiB and fetches nothing: the node stops reading from it, and holds little for it."""
    node = strict.nodes[0]
    with node.client() as client:
        assert client.set("big", b"b" * MIB)
    with _others_served(strict, growth_mib=700), raw(node.port) as greedy:
        request = resp.command("GET", "big") * 2000
        greedy.sendall(request)
        greedy.sendall(resp.command("SET", "greedy", "served"))
        peak = 0.0
        for number in range(100):
            peak = max([peak, *(each.resident_mib() for each in strict.nodes)])
            with strict.nodes[number % 3].client() as client:
                assert client.set("meanwhile", number)
        assert peak < 900, f"{peak} MiB are held for it"
        with node.client() as client:
            assert client.get("greedy") is None, "commands far behind the unread replies were taken"
    with node.client() as client:
        assert client.strlen("big") == MIB


def test_a_slow_reader_gets_everything_in_order(strict: WireCluster) -> None:
    node = strict.nodes[1]
    with node.client() as client:
        client.mset({f"ordered:{number}": f"{number}:" + "y" * 5000 for number in range(100)})
    with raw(node.port) as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 << 10)
        slow.sendall(b"".join(resp.command("GET", f"ordered:{number % 100}") for number in range(5000)))
        for number in range(5000):
            value = f"{number % 100}:" + "y" * 5000
            wanted = resp.bulk(value.encode())
            assert read_exactly(slow, len(wanted)) == wanted


class Bereft(NamedTuple):
    """A cluster whose third node has stopped, and how that one introduced itself."""

    cluster: WireCluster
    introduction: bytes


@pytest.fixture(scope="module")
def bereft(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bereft]:
    """Nodes that a test may talk to in the name of the third."""
    cluster = WireCluster(tmp_path_factory.mktemp("bereft"), config=CONFIG)
    try:
        cluster.form()
        myself = cluster.nodes[2].document("DYN.CLUSTER", "MYSELF")
        cluster.nodes[2].stop()
        yield Bereft(cluster, resp.command("DYN.PEER", 1, myself["cluster"], myself["id"], 1))
    finally:
        cluster.dispose()


def _is_greeted(bereft: Bereft) -> bool:
    with proven(bereft.cluster.ports[0]) as connection:
        connection.sendall(bereft.introduction)
        return connection.recv(100) == b"+OK\r\n"


def _damaged(node: WireNode) -> int:
    count = node.document("DYN.STATS")["counters"]["damaged_frames"]
    assert isinstance(count, int)
    return count


STUCK = storage_key_of(b"stuck")
BODY = supersede(None, b"actor-x.", 5 << 16, b"value")[8:]
TORN = xxh3_64_digest(BODY[:-9]) + BODY[:-9]  # a record whose checksum is right and that ends within its value
AHEAD = xxh3_64_digest(BODY) + BODY  # sound
DEEP = b"[" * 100_000 + b"]" * 100_000
SOUND = encode_frame((b"GOSSIP", 0, 0, 1, b"nobody 1 1 up"))
DAMAGED_FRAMES = {
    "a flipped bit": SOUND[:-10] + bytes([SOUND[-10] ^ 1]) + SOUND[-9:],
    "junk": bytes(range(256)),
    "a command": resp.command("GET", "k" * 20),
    "too large": b"*2\r\n$8\r\nxxxxxxxx\r\n$999999999999\r\n",
    "a frame of 8 GiB": b"*2\r\n$8\r\nxxxxxxxx\r\n$8589934592\r\n",
    "no message": encode_frame(()),
    "a short message": encode_frame((b"STORE",)),
    "words for numbers": encode_frame((b"STORE", b"x", b"y")),
    "a list for a name": encode_frame(([b"STORE"], 1, 2)),
    "a list for a clock": encode_frame((b"STORE", [b"1"], 2)),
    "a key without its record": encode_frame((b"STORE", 0, 1, b"key")),
    "a page without limits": encode_frame((b"ASK", 0, 1, b"PAGE")),
    "a relay of nothing": encode_frame((b"RELAY", 0, 1)),
    "a relay of words": encode_frame((b"RELAY", 0, 1, 0, b"x", b"GET", b"k")),
    "a layout that is none": encode_frame((b"LAYOUT", 0, 1, b"nonsense")),
    "gossip that is none": encode_frame((b"GOSSIP", 0, 1, 1, b"no entry")),
    "a record of a wrong structure": encode_frame((b"STORE", 0, 1, STUCK, TORN)),
    "a record of a wrong structure in a repair": encode_frame((b"ASK", 0, 1, b"ABSORB", STUCK, TORN)),
    "a clock 800 years ahead": encode_frame((b"STORE", 1 << 60, 1, STUCK, AHEAD)),
    "an epoch of 2^40": encode_frame((b"VIEW", 0, 0, 1 << 40, 0, b"0" * 16)),
    "an incarnation of 800 years ahead": encode_frame((b"GOSSIP", 0, 0, 1, b"n2 %d 1 up" % (1 << 50))),
    "a layout that is cut off": encode_frame((b"LAYOUT", 0, 0, b'{"checksum":"0","cluster":"c","epoch":3')),
    "JSON nested 100,000 deep": encode_frame((b"LAYOUT", 0, 0, DEEP)),
    "staged changes nested 100,000 deep": encode_frame((b"STAGED", 0, 0, b'{"epoch":1,"changes":' + DEEP)),
    "an item too many": encode_frame((b"SAME", 0, 1, b"x")),
    "a relayed reply that is none": encode_frame((b"RELAYED", 0, 1, bytes(4), b"+OK")),
    "an answer to nobody": encode_frame((b"RELAYED", 0, 1, b"abc", b"+OK\r\n")) + b"!" * 100,
}


@pytest.mark.parametrize("kind", DAMAGED_FRAMES)
def test_a_peer_that_sends_damage_is_cut_and_counted(bereft: Bereft, kind: str) -> None:
    node, other = bereft.cluster.nodes[:2]
    wait_for(lambda: _is_greeted(bereft), "the third node is gone")
    before, size_mib, said = _damaged(node), node.resident_mib(), node.log.count("damaged message")
    with node.client() as one, other.client() as two:
        _serve([one, two])
        with proven(node.port) as connection:
            connection.sendall(bereft.introduction)
            assert read_exactly(connection, 5) == b"+OK\r\n"
            connection.sendall(SOUND)
            assert connection.exchange(DAMAGED_FRAMES[kind]) == b""
        assert _damaged(node) == before + 1
        _serve([one, two])
    assert node.resident_mib() - size_mib < 64
    assert node.log.count("damaged message") == said + 1, "one line"
    with node.client() as client:
        assert client.get("stuck") is None and client.set("stuck", "v") and client.delete("stuck") == 1
    bereft.cluster.assert_logs_clean()


def test_who_is_no_peer_of_ours_is_told_so(strict: WireCluster) -> None:
    node = strict.nodes[0]
    myself = node.document("DYN.CLUSTER", "MYSELF")
    other = strict.nodes[1].document("DYN.CLUSTER", "MYSELF")
    wrong = [
        resp.command("DYN.PEER"),
        resp.command("DYN.PEER", 99, myself["cluster"], other["id"], 1),
        resp.command("DYN.PEER", 1, "elsewhere", other["id"], 1),
        resp.command("DYN.PEER", 1, myself["cluster"], myself["id"], 1),
        resp.command("DYN.PEER", 1, myself["cluster"], b"\xff\xfe", 1),
        resp.command("DYN.PEER", 1, b"\xff\xfe", other["id"], 1),
    ]
    for request in wrong:
        with proven(node.port) as connection:
            assert connection.exchange(request).startswith(b"-ERR ")
    with proven(node.port) as connection:
        said = connection.exchange(resp.command("DYN.PEER", 2, myself["cluster"], other["id"], 1, "MAX", 3))
    assert b"speaks versions 2 to 3: upgrade node n1" in said
    assert node.log.count("versions 2 to 3: upgrade node n1") == 1
    with raw(node.port) as connection:  # and only a connection's first command can make it a peer's
        connection.sendall(b"PING\r\n")
        assert read_exactly(connection, 7) == b"+PONG\r\n"
        connection.sendall(wrong[0])
        assert b"unknown command" in connection.recv(1000)
    strict.assert_logs_clean()
