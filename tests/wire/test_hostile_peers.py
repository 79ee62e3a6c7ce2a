"""Hostile peers: who sits between nodes, or has the secret and misuses it, or comes from another machine.

test_intruders.py has who knows everything but the secret. Here an intruder turns what nodes say against them: he reflects
their handshakes, passes them on to another node, splices two sessions, cuts blocks short, or speaks for a process of a node
that has ended. And a process that has the secret may ask only what nodes ask each other before they have links.
"""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from protocol import resp
from protocol.handshake import Initiator
from protocol.seals import BLOCK_BYTES
from tests.wire.cluster import WireNode, wait_for
from tests.wire.intruding import Scene, counters, greeted, grown, is_stored, made_scene, store
from tests.wire.networks import cut_cluster
from tests.wire.peering import Proven, prove, proven, read_line
from tests.wire.raw import RECEIVE_BYTES, exchange, is_closed, raw, read_exactly


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """Nodes that an intruder may talk to in the name of the third."""
    with made_scene(tmp_path_factory.mktemp("hostile")) as made:
        yield made


def introduced(scene: Scene, connection: Proven, incarnation: int = 1) -> bytes:
    """Introduces itself as the third node, and returns the beginning of the answer."""
    words = resp.command("DYN.PEER", 1, scene.identity["cluster"], scene.identity["id"], incarnation)
    connection.sendall(words)
    return read_exactly(connection, 3)


def test_a_proof_that_is_reflected_is_refused(scene: Scene) -> None:
    """He has the node prove his own challenge on another connection, and sends that back."""
    before = counters(scene.node)
    with raw(scene.node.port) as one, raw(scene.node.port) as other:
        one.sendall(Initiator((bytes(32),), bytes(32)).hello)
        nonce, proof = read_line(one).split()[2:]
        other.sendall(resp.command("DYN.AUTH", 1, nonce))
        reflected = read_line(other).split()[3]
        for each, answer in ((one, reflected), (other, proof)):
            said = exchange(each, resp.command("DYN.PROOF", answer) + scene.introduction + store(b"reflected"))
            assert said.startswith(b"-NOPROOF ")
    assert grown(scene.node, before) == {"peers_with_wrong_proof": 2} and not is_stored(scene.node, b"reflected")


def _pass_on(source: socket.socket, target: socket.socket, told: list[bytes]) -> None:
    with suppress(OSError):
        while data := source.recv(RECEIVE_BYTES):
            told.append(data)
            target.sendall(data)
    for each in (source, target):
        with suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("target", ["the node itself", "another member"])
def test_a_handshake_that_is_passed_on_makes_no_link(scene: Scene, target: str) -> None:
    """He listens at the third node's address, and passes all bytes of a node on to one that can prove the secret."""
    nodes = scene.cluster.nodes
    before = [counters(node) for node in nodes[:2]]
    passed: list[bytes] = []
    with socket.create_server(("127.0.0.1", nodes[2].port)) as listener:
        listener.settimeout(20)
        count = 0
        while count < 4:
            connection, _ = listener.accept()
            peer = connection.getpeername()[1]
            source = next((node for node in nodes[:2] if peer in _ports_of(node)), None)
            if source is None:  # it has given up before this process was there to accept it
                connection.close()
                continue
            count += 1
            same = target == "the node itself"
            wanted = source if same else next(node for node in nodes[:2] if node is not source)
            with connection, socket.create_connection(("127.0.0.1", wanted.port), 20) as onward:
                back = threading.Thread(target=_pass_on, args=(onward, connection, []))
                back.start()
                _pass_on(connection, onward, passed)
                back.join(20)
    assert any(b"DYN.PROOF" in data for data in passed), "both have proven the secret, to each other"
    assert not any(scene.identity["id"].encode() in data or b"DYN.PEER" in data for data in passed), (
        "all else is sealed"
    )
    refused = [grown(node, was).get("peers_refused", 0) for node, was in zip(nodes[:2], before, strict=True)]
    assert sum(refused) > 0, "the introduction names another node"
    wait_for(lambda: [node.states()["n3"] for node in nodes[:2]] == ["down", "down"], "nobody takes him for n3")
    with nodes[0].client() as client:
        assert client.set("passed:on", "v") and client.get("passed:on") == b"v"


def _ports_of(node: WireNode) -> list[int]:
    """The local ports of the node's connections."""
    files = {path.resolve().name for path in Path(f"/proc/{node.pid}/fd").iterdir() if path.is_symlink()}
    inodes = {name.removeprefix("socket:[").removesuffix("]") for name in files if name.startswith("socket:")}
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return [int(row[1].partition(":")[2], 16) for row in rows if row[9] in inodes]


def test_blocks_of_one_session_are_worth_nothing_in_another(scene: Scene) -> None:
    greeted(scene)
    before = counters(scene.node)
    with raw(scene.node.port) as one, raw(scene.node.port) as other:
        first, second = prove(one)[0], prove(other)[0]
        assert first is not None and first.sealer is not None and second is not None and second.sealer is not None
        other.sendall(second.sealer.seal(scene.introduction))
        assert other.recv(RECEIVE_BYTES)
        first.sealer.seal(scene.introduction)  # so that both have the same count
        assert exchange(other, first.sealer.seal(store(b"spliced"))) == b""
    assert grown(scene.node, before) == {"blocks_forged": 1} and not is_stored(scene.node, b"spliced")


def test_what_a_node_has_sealed_cannot_be_sent_back_to_it(scene: Scene) -> None:
    greeted(scene)
    before = counters(scene.node)
    with raw(scene.node.port) as connection:
        session = prove(connection)[0]
        assert session is not None and session.sealer is not None
        connection.sendall(session.sealer.seal(scene.introduction))
        assert exchange(connection, connection.recv(RECEIVE_BYTES)) == b""
    assert grown(scene.node, before) == {"blocks_forged": 1}


@pytest.mark.parametrize("left_bytes", [1, 4, 5, 30, -1])
def test_a_block_that_is_cut_short_changes_nothing(scene: Scene, left_bytes: int) -> None:
    greeted(scene)
    key = b"short:%d" % left_bytes
    with proven(scene.node.port) as connection:
        assert introduced(scene, connection) == b"+OK"
        connection.socket.sendall(connection._sealer.seal(store(key))[:left_bytes])
        connection.socket.shutdown(socket.SHUT_WR)
        wait_for(lambda: is_closed(connection.socket), "the node closes, too")
    assert not is_stored(scene.node, key)
    greeted(scene)


@pytest.mark.parametrize("size_bytes", [0, BLOCK_BYTES + 1, 0xFFFFFFFF])
def test_a_block_of_an_impossible_size_is_not_waited_for(scene: Scene, size_bytes: int) -> None:
    before = counters(scene.node)
    with proven(scene.node.port) as connection:
        assert exchange(connection.socket, struct.pack(">I", size_bytes) + bytes(64)) == b""
    assert grown(scene.node, before) == {"blocks_forged": 1}


@pytest.mark.parametrize(
    "command",
    ["GET k", "SET k v", "FLUSHALL CONFIRM", "CONFIG SET protected-mode no", "ACL SETUSER evil on nopass +@all",
     "ACL LIST", "DYN.SET k v", "DYN.CLUSTER COMMIT 2", "DYN.CLUSTER LEAVE n1", "DYN.CLUSTER REMOVE n3",
     "DYN.CLUSTER INIT {}", "DYN.STATS", "SHUTDOWN", "CLIENT LIST", "KEYS *"],
)  # fmt: skip
def test_a_process_with_the_secret_may_not_run_commands_of_clients(scene: Scene, command: str) -> None:
    """The secret makes a node, and no client without a password: what it says beside its introduction is bounded."""
    with proven(scene.node.port) as connection:
        connection.sendall(resp.command(*command.split()))
        said = connection.recv(RECEIVE_BYTES)
    assert said.startswith((b"-NOPERM ", b"-ERR unknown ")), said
    with scene.node.client() as client:
        assert client.execute_command("ACL", "USERS") == [b"default"] and client.get("k") is None


def test_a_process_with_the_secret_cannot_log_in_or_stage_a_member_anew(scene: Scene) -> None:
    with proven(scene.node.port) as connection:
        connection.sendall(resp.command("DYN.CLUSTER", "MYSELF"))
        assert connection.recv(RECEIVE_BYTES).startswith(b"$"), "the control: this is what nodes ask"
        forged = b'{"id":"%b","name":"n3","address":"127.0.0.1:1","zone":"","weight":9}' % scene.identity["id"].encode()
        connection.sendall(resp.command("DYN.CLUSTER", "JOIN", forged))
        assert b"is a member already" in connection.recv(RECEIVE_BYTES)
        connection.sendall(resp.command("DYN.CLUSTER", "JOIN", "127.0.0.1:1"))
        assert connection.recv(RECEIVE_BYTES).startswith(b"-"), "it makes this node connect nowhere"
    assert scene.node.document("DYN.CLUSTER", "PLAN")["changes"] == []


def test_an_earlier_process_of_a_node_is_not_heard_any_more(scene: Scene) -> None:
    greeted(scene)
    with proven(scene.node.port) as old:
        wait_for(lambda: introduced_again(scene, 7), "the later process is taken")
        assert introduced(scene, old, 6) != b"+OK", "an earlier one comes too late"
        with suppress(OSError):
            old.sendall(store(b"earlier"))
        wait_for(lambda: is_closed(old.socket), "it is closed")
    assert not is_stored(scene.node, b"earlier")


def introduced_again(scene: Scene, incarnation: int) -> bool:
    """Whether a process of the third node with that incarnation is taken."""
    with proven(scene.node.port) as connection:
        return introduced(scene, connection, incarnation) == b"+OK"


def test_a_client_on_another_machine_is_denied_and_nodes_are_not(tmp_path: Path) -> None:
    with cut_cluster(tmp_path, 2) as (cluster, made):
        for node in cluster.nodes:
            with node.client() as client:  # the setting still lets this process in, which is on another machine
                assert client.config_set("protected-mode", "yes")
        node, address = cluster.nodes[0], made.hosts[0].address
        with socket.create_connection((address, node.port), 20) as stranger:
            said = exchange(stranger, resp.command("SET", "k", "stolen") + resp.command("DYN.CLUSTER", "STATUS"))
        assert said.startswith(b"-DENIED this node is in protected mode") and said.count(b"\r\n") == 1
        with socket.create_connection((address, node.port), 20) as stranger:
            session, _ = prove(stranger)
            assert session is not None and session.sealer is not None and session.opener is not None
            stranger.sendall(session.sealer.seal(resp.command("DYN.CLUSTER", "MYSELF")))
            assert session.opener.open(stranger.recv(RECEIVE_BYTES)).startswith(b"$"), "a node from there is none"
        wait_for(lambda: f"client {made.outside}:" in node.log, "the log says who was denied")
        assert not any(f"client {host.address}:" in each.log for host in made.hosts for each in cluster.nodes)
