"""Libraries of functions on three nodes that are cut off from each other, changed on all sides, and connected again.

Real nodes exchange real messages, as in tests/core/commands/test_users_apart.py, and each has an interpreter.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from protocol.frames import FrameReader, seal
from protocol.peer_versions import CAPABILITIES, FUNCTIONS
from server.core.messages.libraries import libraries_in
from server.core.node import Node
from server.core.outbox import Outbox
from server.core.scripts.engine import Function
from server.core.scripts.libraries import Libraries, LibraryEntry, library_of
from server.core.shared.document import merged
from server.scripting.runtime import Runtime
from tests.core.commands.talking import CONFIG, WALL_MS, Store, finish_turn, member
from tests.core.commands.test_users_apart import NODES, Cluster
from tests.scripting.nodes import decoded
from tests.scripting.running import MEMORY_BYTES, stands_still

PAIRS = ((0, 1), (0, 2), (1, 2))


def library(name: str, value: int, function: str = "") -> bytes:
    """A library with one function, which returns a number and the keys."""
    text = "#!lua name=%s\nredis.register_function('%s', function(keys) return {%d, keys[1]} end)"
    return (text % (name, function or name, value)).encode()


class Functions(Cluster):
    """The cluster, with interpreters; all commands that nodes send each other are noted."""

    def __init__(self, seed: int = 1, *apart: int) -> None:
        super().__init__(seed)
        self.sent: list[tuple[int, int, list[object]]] = []
        for node in self.nodes:
            node.services.scripts.make_engine = lambda: Runtime(MEMORY_BYTES, stands_still)
        for pair in PAIRS:
            if not set(apart) & set(pair):
                self.connect(*pair)
        self.run(2000)

    def ask(self, place: int, *words: bytes) -> object:
        """The reply to a command; None while there is none within three seconds."""
        node = self.nodes[place]
        session = node.open_session("10.0.0.9:1", "10.0.0.1:1", self.now_ms)
        node.command(session, list(words), self.now_ms)
        for _ in range(40):
            reply = self._replies(place, session)
            if reply:
                node.close_session(session)
                return decoded(reply)
            for number in range(NODES):
                if number != place:
                    self._replies(number)
            self.now_ms += 100
            for number, each in enumerate(self.nodes):
                if number != place:
                    each.tick(self.now_ms, WALL_MS + self.now_ms)
            node.tick(self.now_ms, WALL_MS + self.now_ms)
        return None

    def _replies(self, place: int, session: object = None) -> bytes:
        """Ends a turn of a node: delivers its messages, and returns what it says to a session."""
        outbox = finish_turn(self.nodes[place])
        self._pass_on(place, outbox)
        return b"".join([data for each, data in outbox.replies if each is session])

    def _deliver(self, place: int, node: Node) -> int:
        self._pass_on(place, finish_turn(node))
        return 0

    def _pass_on(self, place: int, outbox: Outbox) -> None:
        for peer in dict.fromkeys([*outbox.messages, *outbox.large]):
            there = next(number for number in range(NODES) if member(number + 1).id == peer)
            reader = FrameReader(1 << 22)
            reader.feed(
                outbox.messages.get(peer, b"") + b"".join([seal([each]) for each in outbox.large.get(peer, [])])
            )
            while (message := reader.next()) is not None:
                self.sent.append((place, there, message))
                if frozenset((place, there)) in self.together:
                    self.nodes[there].receive(member(place + 1).id, message, self.now_ms)

    def kinds_sent(self, place: int, there: int) -> set[object]:
        """The kinds of messages that a node has sent to another one."""
        return {message[0] for one, other, message in self.sent if (one, other) == (place, there)}

    def key_of(self, place: int, coordinator: int) -> bytes:
        """A key that another node coordinates."""
        wanted = member(coordinator + 1).id
        route = self.nodes[place].services.route
        return next(b"%d" % n for n in range(1000) if route(b"%d" % n).coordinator_for(False) == wanted)

    def texts(self) -> list[Sequence[bytes]]:
        """The texts of all libraries, as each node has them."""
        return [[each.text for each in node.services.functions.all().values()] for node in self.nodes]


def test_a_library_can_be_called_through_any_node_once_it_is_loaded() -> None:
    cluster = Functions()
    assert cluster.ask(0, b"FUNCTION", b"LOAD", library("lib", 1)) == b"lib"
    for place in range(NODES):
        assert cluster.ask(place, b"FCALL", b"lib", b"0") == [1]
        for coordinator in range(NODES):
            if coordinator != place:
                key = cluster.key_of(place, coordinator)
                assert cluster.ask(place, b"FCALL", b"LIB", b"1", key) == [1, key]


def test_the_answer_waits_for_nodes_that_can_be_reached_and_for_no_others() -> None:
    cluster = Functions()
    cluster.cut(0, 2)
    node = cluster.nodes[0]
    session = node.open_session("10.0.0.9:1", "10.0.0.1:1", cluster.now_ms)
    node.command(session, [b"FUNCTION", b"LOAD", library("lib", 1)], cluster.now_ms)
    assert cluster._replies(0, session) == b"", "node 2 has it, and has not said so yet"
    cluster._replies(1)
    assert cluster._replies(0, session) == b"$3\r\nlib\r\n"
    assert cluster.texts()[2] == []
    cluster.connect(0, 2)
    cluster.run(3000)
    assert cluster.texts()[2] == [library("lib", 1)]


@pytest.mark.parametrize("seed", range(3))
def test_changes_on_all_sides_of_a_partition_merge(seed: int) -> None:
    rng, cluster = random.Random(seed), Functions(seed)
    assert cluster.ask(0, b"FUNCTION", b"LOAD", library("shared", 0)) == b"shared"
    assert cluster.ask(0, b"FUNCTION", b"LOAD", library("gone", 0)) == b"gone"
    for pair in PAIRS:
        cluster.cut(*pair)
    expected = {"shared": library("shared", 0)}
    for step in range(1, 13):
        place = rng.randrange(NODES)
        name = rng.choice(("shared", f"own{place}"))
        expected[name] = library(name, step)
        assert cluster.ask(place, b"FUNCTION", b"LOAD", b"REPLACE", expected[name]) == name.encode()
        cluster.run(100)
    assert cluster.ask(1, b"FUNCTION", b"DELETE", b"gone") == b"OK"
    for pair in PAIRS:
        cluster.connect(*pair)
    cluster.run(5000)
    assert cluster.texts() == [[expected[name] for name in sorted(expected)]] * NODES
    cluster.sent.clear()
    cluster.run(3000)
    assert b"LIBVIEW" in cluster.kinds_sent(0, 1) and b"LIBRARIES" not in cluster.kinds_sent(0, 1), "they are equal"


def test_of_two_functions_of_one_name_the_later_library_has_it_on_all_nodes() -> None:
    cluster = Functions()
    cluster.cut(0, 1), cluster.cut(0, 2)
    cluster.ask(0, b"FUNCTION", b"LOAD", library("one", 1, "same"))
    cluster.run(500)
    cluster.ask(1, b"FUNCTION", b"LOAD", library("other", 2, "same"))
    cluster.connect(0, 1), cluster.connect(0, 2)
    cluster.run(5000)
    assert [cluster.ask(place, b"FCALL", b"same", b"0") for place in range(NODES)] == [[2]] * NODES
    assert cluster.ask(2, b"FUNCTION", b"DELETE", b"other") == b"OK"
    assert [cluster.ask(place, b"FCALL", b"same", b"0") for place in range(NODES)] == [[1]] * NODES


def test_a_call_runs_its_text_also_where_another_one_is_in_force() -> None:
    cluster = Functions()
    cluster.ask(0, b"FUNCTION", b"LOAD", library("lib", 1))
    key = cluster.key_of(0, 1)
    newer = library_of(library("lib", 2), [Function(b"lib", None, ())])
    functions = cluster.nodes[0].services.functions
    functions.sharing.document = functions.sharing.document.with_entry(b"lib", LibraryEntry(1 << 50, "n", newer))
    functions._find_all()  # only this node has it
    assert cluster.ask(0, b"FCALL", b"lib", b"1", key) == [2, key]
    assert b"ASK" in cluster.kinds_sent(1, 0)


def test_nodes_of_earlier_versions_are_neither_told_nor_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    without = tuple(each for each in CAPABILITIES if each != FUNCTIONS)
    monkeypatch.setattr("tests.core.commands.test_users_apart.CAPABILITIES", without)
    cluster = Functions()
    assert cluster.ask(0, b"FUNCTION", b"LOAD", library("lib", 1)) == b"lib"
    key = cluster.key_of(0, 1)
    assert cluster.ask(0, b"FCALL", b"lib", b"1", key) == [1, key], "command by command, from here"
    cluster.run(3000)
    assert not {b"LIBRARIES", b"LIBVIEW"} & cluster.kinds_sent(0, 1)
    relayed = [str(message) for place, there, message in cluster.sent if message[0] == b"RELAY"]
    assert not [each for each in relayed if "DYN.EVAL" in each]


def test_a_node_that_starts_again_has_its_libraries() -> None:
    cluster = Functions()
    cluster.ask(0, b"FUNCTION", b"LOAD", library("lib", 1))
    store = cluster.nodes[0].state.records._store
    assert isinstance(store, Store)
    again = Node(member(1), b"actor--9", 9, CONFIG, store, random.Random(1), WALL_MS)
    assert list(again.services.functions.all()) == [b"lib"]
    (key,) = [key for key in store.pairs if key.endswith(b"libraries")]
    store.pairs[key] = store.pairs[key][:-9]
    damaged = Node(member(1), b"actor--9", 10, CONFIG, store, random.Random(1), WALL_MS)
    assert not damaged.services.functions.all() and damaged.state.records.damaged == 1


def test_a_node_that_joins_learns_the_libraries() -> None:
    cluster = Functions(1, 2)
    cluster.ask(0, b"FUNCTION", b"LOAD", library("lib", 1))
    assert cluster.texts()[2] == []
    cluster.connect(0, 2)
    cluster.run(2000)
    assert cluster.texts()[2] == [library("lib", 1)]
    assert cluster.ask(2, b"FCALL", b"lib", b"0") == [1]


def test_a_merge_does_not_depend_on_order_and_documents_are_decoded_as_encoded() -> None:
    rng = random.Random(1)

    def document() -> Libraries:
        found = Libraries()
        for name in (b"a", b"b", b"c"):
            counter, node = rng.randrange(1, 6), rng.choice(["n1", "n2"])
            text = b"#!lua name=%b\n-- \xff %d %b" % (name, counter, node.encode())
            about = rng.choice([None, b"", b"\xfe"])
            one = library_of(text, [Function(b"f", about, ("no-writes",)), Function(b"F%d" % counter, None, ())])
            if rng.random() < 0.7:
                found = found.with_entry(name, LibraryEntry(counter, node, None if rng.random() < 0.3 else one))
        return found

    for _ in range(500):
        a, b, c = document(), document(), document()
        assert merged(a, b).digest() == merged(b, a).digest()
        assert merged(merged(a, b), c).digest() == merged(a, merged(b, c)).digest()
        assert libraries_in(a.encode()) == a


def test_all_libraries_together_are_bounded() -> None:
    cluster = Functions()
    text = b"#!lua name=big%d\n--" + b"x" * 900_000 + b"\nredis.register_function('f%d', function() end)"
    assert cluster.ask(0, b"FUNCTION", b"LOAD", text % (1, 1)) == b"big1"
    assert cluster.ask(0, b"FUNCTION", b"LOAD", text % (2, 2)) == b"big2"
    assert str(cluster.ask(0, b"FUNCTION", b"LOAD", text % (3, 3))).startswith("ERR all libraries together exceed")
    assert str(cluster.ask(0, b"FUNCTION", b"LOAD", text % (4, 4) + b"x" * 200_000)).startswith("ERR a library has")
    assert cluster.ask(0, b"FUNCTION", b"DELETE", b"big1") == b"OK"
    assert cluster.ask(0, b"FUNCTION", b"LOAD", text % (3, 3)) == b"big3"
    cluster.run(1000)
    assert [[len(each) for each in texts] for texts in cluster.texts()] == [[len(text % (1, 1))] * 2] * NODES
