"""Intruders: who reaches a node's port and does not know the secret of the cluster gets nothing.

No read, no write, no layout, no gossip, no delay of others; each attempt is counted, and the log has a line for each kind
of attempt and not for each attempt. What an intruder may know is everything but the secret: the ids and the cluster, which
INFO and CLUSTER NODES tell every client, and all that was ever sent between nodes.
"""

from __future__ import annotations

import errno
import os
import random
import resource
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from protocol import resp
from protocol.frames import encode_frame
from protocol.handshake import Initiator
from server.core.commands.operator import first_layout
from tests.wire.cluster import PATIENT, SECRET, WireNode, wait_for
from tests.wire.intruding import Scene, counters, greeted, grown, is_stored, made_scene, store
from tests.wire.load import Load
from tests.wire.peering import prove, proven, read_line
from tests.wire.raw import RECEIVE_BYTES, exchange, raw, read_exactly

OTHER_SECRET = bytes(32)
HALF_OPEN = 10_000


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """Nodes that an intruder may talk to in the name of the third."""
    with made_scene(tmp_path_factory.mktemp("intruders")) as made:
        yield made


def test_who_proves_the_secret_is_a_node(scene: Scene) -> None:
    """The control: the same bytes with a proof are taken, so it is the proof that the others lack."""
    greeted(scene)
    with proven(scene.node.port) as connection:
        connection.sendall(scene.introduction)
        assert read_exactly(connection, 5) == b"+OK\r\n"
        connection.sendall(store(b"control"))
        wait_for(lambda: is_stored(scene.node, b"control"), "the record is stored")


@pytest.mark.parametrize("who", ["a member that is down", "a member that is up", "the node itself", "nobody's id"])
def test_a_stolen_id_is_worth_nothing_without_the_secret(scene: Scene, who: str) -> None:
    node, before = scene.node, counters(scene.node)
    epoch = node.document("DYN.CLUSTER", "MYSELF")["epoch"]
    ids = {
        "a member that is down": scene.identity["id"],
        "a member that is up": scene.cluster.nodes[1].document("DYN.CLUSTER", "MYSELF")["id"],
        "the node itself": node.document("DYN.CLUSTER", "MYSELF")["id"],
        "nobody's id": "e" * 40,
    }
    introduction = resp.command("DYN.PEER", 1, scene.identity["cluster"], ids[who], 1, epoch, 99, "MAX", 1)
    wish = {"partitions": 128, "n": 1, "r": 1, "w": 1, "members": [scene.identity]}
    evil = replace(first_layout(wish, scene.identity["cluster"]), epoch=99).encode()
    frames = (
        store(b"stolen") + encode_frame((b"LAYOUT", 0, 0, evil)) + encode_frame((b"GOSSIP", 0, 0, 1, b"n2 9 9 down"))
    )
    with raw(node.port) as connection:
        said = exchange(connection, introduction + frames)
    assert said.startswith(b"-NOPROOF node n1 takes messages only from nodes that prove the secret") and b"\r\n" in said
    assert said.count(b"\r\n") == 1, "one refusal, and nothing else"
    assert grown(node, before) == {"peers_without_proof": 1}
    assert not is_stored(node, b"stolen") and node.document("DYN.CLUSTER", "MYSELF")["epoch"] == epoch
    assert 1 <= node.log.count("introduced themselves as nodes without a proof") < 4, "one line a minute"


def test_a_wrong_secret_is_refused_on_both_sides(scene: Scene) -> None:
    node, before = scene.node, counters(scene.node)
    with raw(node.port) as connection:
        session, _ = prove(connection, OTHER_SECRET)
        assert session is None, "nor does the node prove that one"
        assert read_line(connection).startswith(b"-NOPROOF the node that connects has another secret than node n1: ")
        assert exchange(connection, scene.introduction + store(b"wrong")) == b""
    with raw(node.port) as connection:
        connection.sendall(Initiator((SECRET,), bytes(32)).hello)
        read_line(connection)
        guessed = resp.command("DYN.PROOF", os.urandom(32).hex())
        assert exchange(connection, guessed + scene.introduction).startswith(b"-NOPROOF ")
    assert grown(node, before) == {"peers_with_wrong_proof": 2}
    assert not is_stored(node, b"wrong")
    assert node.log.count("did not prove the secret of this cluster") == 1


def test_a_replayed_handshake_is_refused(scene: Scene) -> None:
    """All that a node has sent, byte by byte, once more: recorded on the way, though the intruder knows no secret."""
    greeted(scene)
    initiator = Initiator((SECRET,), os.urandom(32))
    with raw(scene.node.port) as connection:
        connection.sendall(initiator.hello)
        proof = initiator.prove(read_line(connection))
        assert initiator.session is not None and initiator.session.sealer is not None
        rest = initiator.session.sealer.seal(scene.introduction) + initiator.session.sealer.seal(store(b"replayed"))
    before = counters(scene.node)
    with raw(scene.node.port) as connection:
        connection.sendall(initiator.hello)
        assert read_line(connection).startswith(b"+PROVE 1 ")
        assert exchange(connection, proof + rest).startswith(b"-NOPROOF ")
    assert grown(scene.node, before) == {"peers_with_wrong_proof": 1}
    assert not is_stored(scene.node, b"replayed")


@pytest.mark.parametrize("what", ["repeated", "swapped", "changed", "left out", "in the clear"])
def test_a_block_that_was_not_sent_as_it_is_ends_the_connection(scene: Scene, what: str) -> None:
    """A man in the middle of a session in order, who passes on what he likes."""
    greeted(scene)
    key = what.encode()
    before = counters(scene.node)
    with raw(scene.node.port) as connection:
        session, _ = prove(connection)
        assert session is not None and session.sealer is not None and session.opener is not None
        connection.sendall(session.sealer.seal(scene.introduction))
        answer = b""
        while not answer:
            answer = session.opener.open(connection.recv(RECEIVE_BYTES))
        assert answer == b"+OK\r\n"
        harmless = session.sealer.seal(encode_frame((b"CLOCK", 0, 1)))
        secret = session.sealer.seal(store(key))
        changed = secret[:-1] + bytes([secret[-1] ^ 1])
        sent = {
            "repeated": harmless + harmless + secret,
            "swapped": secret + harmless,
            "changed": harmless + changed,
            "left out": secret,
            "in the clear": harmless + store(key),
        }
        assert exchange(connection, sent[what]) == b""
    assert grown(scene.node, before) == {"blocks_forged": 1}
    assert not is_stored(scene.node, key)


@pytest.mark.parametrize(
    "answer",
    [b"+OK\r\n", b"-ERR unknown command 'DYN.AUTH'\r\n", b"-NOSECRET\r\n", b"-GONE 99 0 node has been removed\r\n",
     b"x" * 5000, b"+PROVE 1 %s %s\r\n" % (b"0" * 64, b"0" * 64)],
    ids=["welcome", "an older node", "no secret", "gone", "junk", "a wrong proof"],
)  # fmt: skip
def test_an_impostor_at_a_members_address_learns_and_reaches_nothing(scene: Scene, answer: bytes) -> None:
    """He has taken the third node's address, and nodes connect to him."""
    node = scene.node
    with socket.create_server(("127.0.0.1", scene.cluster.nodes[2].port)) as listener:
        listener.settimeout(20)
        for _ in range(3):  # three attempts, of either node
            connection, _ = listener.accept()
            with connection:
                connection.settimeout(20)
                said = b""
                while len(said) < len(Initiator((SECRET,), bytes(32)).hello):
                    said += connection.recv(RECEIVE_BYTES)
                assert said.startswith(b"*3\r\n$8\r\nDYN.AUTH\r\n$1\r\n1\r\n$64\r\n"), "a nonce"
                rest = exchange(connection, answer)
                assert not rest.strip(b"0").replace(resp.command("DYN.PROOF", "0" * 64), b""), "and nothing else"
    assert node.document("DYN.CLUSTER", "MYSELF")["epoch"] == 1, "it has not left its cluster"


def test_status_says_which_node_does_not_prove_the_secret_and_what_to_do(scene: Scene) -> None:
    third = scene.cluster.nodes[2]
    third.write_secrets(OTHER_SECRET)
    third.start()
    try:
        wait_for(third.serves, "n3 serves")

        def summary() -> str:
            return str(scene.node.document("DYN.CLUSTER", "STATUS")["summary"])

        # Suspect comes before down, if an intruder has spoken in its name a moment ago.
        wanted = f"n3 (127.0.0.1:{third.port}) is down (it has another secret than this node)"
        wait_for(lambda: summary().startswith(wanted), "the status says so")
        said = summary()
        assert "copy the file `secret` from the directory of a node that is up into its directory (mode 600)" in said
        rows = {row["name"]: row for row in scene.node.document("DYN.CLUSTER", "STATUS")["nodes"]}
        assert rows["n3"]["reason"] == "unproven"
        told = "has another secret than this node: give both nodes the same file `secret`"
        wait_for(lambda: told in scene.node.log, "the log says so")
        third.write_secrets(SECRET)
        scene.cluster.wait_healthy()  # without a restart
    finally:
        third.write_secrets(SECRET)
        third.stop()
        wait_for(lambda: scene.node.states()["n3"] == "down", "n3 is down again")


def test_a_browser_that_is_made_to_post_reaches_nothing(scene: Scene) -> None:
    node, before = scene.node, counters(scene.node)
    initiator = Initiator((SECRET,), bytes(32))
    body = initiator.hello + scene.introduction + store(b"posted")
    head = b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: %d\r\n\r\n" % len(body)
    with raw(node.port) as connection:
        assert b"PROVE" not in exchange(connection, head + body)
    assert grown(node, before) == {"http_refused": 1} and not is_stored(node, b"posted")
    with raw(node.port) as connection:  # what a page of his can put in front of a command
        assert b"posted" not in exchange(connection, head + resp.command("SET", "posted", "v"))
    assert grown(node, before) == {"http_refused": 2} and not is_stored(node, b"posted")


def test_a_user_who_may_only_get_some_keys_gets_nothing_else(scene: Scene) -> None:
    """No other key, no write, no layout, no user, no setting, and nothing of what nodes say to each other."""
    node = scene.node
    with node.client() as admin:
        admin.execute_command("ACL", "SETUSER", "reader", "reset", "on", ">word", "~app:*", "+get")
        admin.mset({"app:k": "allowed", "other:k": "forbidden"})
    epoch, before = node.document("DYN.CLUSTER", "MYSELF")["epoch"], counters(node)
    wish = '{"partitions": 128, "n": 1, "r": 1, "w": 1, "members": []}'
    tried = [
        ("GET", "other:k"), ("SET", "app:k", "v"), ("DEL", "app:k"), ("MGET", "app:k", "other:k"), ("KEYS", "*"),
        ("EVAL", "return redis.call('GET', 'other:k')", 0), ("FLUSHALL",), ("CONFIG", "SET", "requirepass", ""),
        ("ACL", "SETUSER", "reader", "+@all"), ("ACL", "LIST"), ("SUBSCRIBE", "c"), ("MONITOR",), ("CLIENT", "LIST"),
        ("DYN.CLUSTER", "INIT", wish), ("DYN.CLUSTER", "LEAVE", "n2"), ("DYN.CLUSTER", "STATUS"), ("DYN.RING", "SHOW"),
        ("DYN.SET", "app:k", "v"), ("DYN.GET", "other:k"), ("DYN.REPAIR", "START"), ("WATCH", "other:k"),
    ]  # fmt: skip
    with raw(node.port) as connection:
        asked = [resp.command(*call) for call in tried]
        login = resp.command("AUTH", "reader", "wrong") + resp.command("AUTH", "reader", "word")
        said = exchange(connection, b"".join([login, resp.command("GET", "app:k"), *asked, resp.command("QUIT")]))
    wrong, ok, *rest = said.split(b"\r\n")
    assert wrong.startswith(b"-WRONGPASS") and [ok, *rest[:2]] == [b"+OK", b"$7", b"allowed"], said
    refusals = rest[2 : 2 + len(tried)]
    assert all(each.startswith(b"-NOPERM ") for each in refusals), dict(zip(tried, refusals, strict=True))
    assert grown(node, before) == {"commands_refused": len(tried), "logins_refused": 1}
    with node.client() as admin:
        assert admin.mget("app:k", "other:k") == [b"allowed", b"forbidden"]
        assert admin.execute_command("ACL", "DELUSER", "reader") == 1
    assert node.document("DYN.CLUSTER", "MYSELF")["epoch"] == epoch
    assert "forbidden" not in node.log and "allowed" not in node.log


def _open_files(node: WireNode) -> int:
    return len(os.listdir(f"/proc/{node.pid}/fd"))


def test_ten_thousand_half_open_handshakes_delay_nobody(scene: Scene) -> None:
    """Each has begun a handshake and says no more. The node keeps 64 at most, each for five seconds at most."""
    node, third, before = scene.node, scene.cluster.nodes[2], counters(scene.node)
    hello = Initiator((SECRET,), bytes(32)).hello
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, HALF_OPEN + 2048), hard))
    size_mib, files = node.resident_mib(), _open_files(node)
    try:
        with ExitStack() as stack:
            client = stack.enter_context(node.client())
            for number in range(HALF_OPEN):
                connection = stack.enter_context(socket.create_connection(("127.0.0.1", node.port), 20))
                connection.sendall(hello)
                if number == HALF_OPEN // 2:
                    third.start()  # and a node in earnest comes through
                if number % 100 == 0:
                    assert client.set(f"flood:{number}", "v") and client.get(f"flood:{number}") == b"v"
                    assert _open_files(node) < files + 200, (
                        "64, a few clients and nodes, and those that are being closed"
                    )
            scene.cluster.wait_healthy()
            wait_for(lambda: grown(node, before).get("handshakes_dropped", 0) >= HALF_OPEN, "all are dropped")
            assert node.resident_mib() - size_mib < 64
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert node.log.count("began the handshake of nodes and did not end it in time") <= 4, "not a line for each"
    third.stop()
    wait_for(lambda: node.states()["n3"] == "down", "n3 is down again")


def test_what_nodes_tell_contains_no_secret(scene: Scene) -> None:
    node = scene.node
    asked = ("INFO", "CONFIG GET *", "CLUSTER NODES", "CLUSTER LINKS", "CLIENT LIST", "COMMAND DOCS", "DYN.STATS",
             "DYN.CLUSTER MYSELF", "DYN.CLUSTER STATUS", "NONE", "DYN.AUTH", "DYN.PROOF 0", "QUIT")  # fmt: skip
    with raw(node.port) as connection:
        told = exchange(connection, "".join(f"{command}\r\n" for command in asked).encode())
    assert b"peers_without_proof" in told and b"fingerprint" not in told
    files = [path.read_bytes() for path in node.directory.rglob("*") if path.is_file() and path.name != "secret"]
    for text in [told, *files]:
        assert SECRET.hex().encode() not in text and SECRET not in text and repr(SECRET).encode() not in text
    assert (node.directory / "secret").stat().st_mode & 0o777 == 0o600


# --- fuzzing


def _stream(scene: Scene, connection: socket.socket, key: bytes, change: int, rng: random.Random) -> None:
    """Sends what a node would: its proof, introduction and a record, with part number `change` mutated."""
    initiator = Initiator((SECRET,), rng.randbytes(32))
    if change == 0:
        connection.sendall(_mutated(initiator.hello, rng))
        return
    connection.sendall(initiator.hello)
    line = read_line(connection)
    proof = initiator.prove(line)
    session = initiator.session
    connection.sendall(_mutated(proof, rng) if change == 1 else proof)
    if session is None or session.sealer is None:
        return
    parts = [session.sealer.seal(scene.introduction), session.sealer.seal(store(key))]
    if change > 1:
        parts[change - 2] = _mutated(parts[change - 2], rng)
    connection.sendall(b"".join(parts))


def _mutated(data: bytes, rng: random.Random) -> bytes:
    """Something else than `data`, and like it: bits flipped, a piece left out, repeated, or replaced by junk."""
    start, end = sorted(rng.randrange(len(data) + 1) for _ in range(2))
    end = max(end, start + 1)
    kind = rng.randrange(5)
    flipped = bytes([data[start % len(data)] ^ (1 << rng.randrange(8))])
    found = (
        data[: start % len(data)] + flipped + data[start % len(data) + 1 :],
        data[:start] + data[end:],
        data[:end] + data[start:],
        data[:start] + rng.randbytes(end - start) + data[end:],
        data[:start] + rng.randbytes(rng.randrange(1, 40)) + data[start:],
    )[kind]
    return found if found != data else data + b"!"


def _fuzz(scene: Scene, rng: random.Random) -> None:
    key = b"fuzz:%d" % rng.getrandbits(60)
    change = rng.randrange(4)
    with raw(scene.node.port) as connection:
        connection.settimeout(10)
        try:
            _stream(scene, connection, key, change, rng)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(RECEIVE_BYTES):
                pass
        except OSError as error:
            assert error.errno in (errno.ENOTCONN, errno.ECONNRESET, errno.EPIPE), error
    assert not is_stored(scene.node, key), f"part {change}"


def test_mutated_sessions_change_nothing(scene: Scene) -> None:
    greeted(scene)
    rng = random.Random(11)
    for _ in range(150):
        _fuzz(scene, rng)
    greeted(scene)
    with scene.node.client() as client:
        assert client.set("after", "v") and client.get("after") == b"v"


@pytest.mark.soak
def test_a_minute_of_mutated_sessions_changes_nothing_and_stops_nobody(tmp_path: Path) -> None:
    seed = random.SystemRandom().getrandbits(32)
    print(f"seed {seed}")
    rng, count = random.Random(seed), 0
    with made_scene(tmp_path, PATIENT) as scene:
        greeted(scene)
        until = time.monotonic() + 60
        load = Load([scene.node.port], threads=2)
        with load.running():
            while time.monotonic() < until:
                _fuzz(scene, rng)
                count += 1
            load.more(10)
        print(f"{count} sessions beside {load.writes} writes")
        assert not load.errors and not load.breaks, (load.errors[:10], load.breaks)
        load.assert_all_there(scene.node)
        greeted(scene)
