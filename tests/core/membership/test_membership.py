"""How a node comes to a layout, spreads it, and leaves: what it stores, says and refuses."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

import pytest

from protocol.frames import FrameReader
from server.core.base.errors import NoLayout
from server.core.commands.operator import first_layout
from server.core.membership.membership import DOWN_MS
from server.core.messages.announcements import LayoutView
from server.core.node import Node
from server.core.outbox import Outbox
from server.core.records.records import META, storage_key_of
from server.core.records.versions import supersede
from server.core.ring.change import JOIN, LEAVE, REMOVE, WEIGHT, Change
from server.core.ring.layout import Layout, Member
from server.core.ring.merging import merge
from server.core.ring.succession import LOG_MAX, commit, release
from server.storage.memory import MemoryEngine
from tests.core.commands.talking import CONFIG, go_by_own_clock

WALL_MS = 1_800_000_000_000
NAMES = ("n1", "n2", "n3", "n4")


def member(name: str) -> Member:
    """A member by its name, which is its id, too."""
    return Member(name, name, f"127.0.0.1:700{name[1:]}", "z", 1)


def layout_of(names: Sequence[str] = NAMES[:3], cluster: str = "c") -> Layout:
    """The layout of epoch 1."""
    fields = ("id", "name", "address", "zone", "weight")
    members = [{field: getattr(member(name), field) for field in fields} for name in names]
    return first_layout({"partitions": 16, "n": 3, "r": 2, "w": 2, "members": members}, cluster)


def change(kind: str, name: str, **fields: str | int) -> Change:
    """A change about a node."""
    new = {"name": name, "address": member(name).address, "zone": "z", "weight": 1} if kind == JOIN else {}
    return Change(f"{kind}-{name}", kind, name, **{**new, **fields})  # type: ignore[arg-type]


class Machine:
    """A node on an engine, and what it says."""

    def __init__(self, name: str = "n1", layout: Layout | None = None, address: str = "") -> None:
        self.member = replace(member(name), address=address or member(name).address)
        self.engine = MemoryEngine()
        self.now_ms = 1000
        self.start()
        if layout is not None:
            assert self.node.services.membership.offer(layout)
            go_by_own_clock(self.node)
            self.turn()

    def start(self, address: str = "") -> None:
        """The process starts on what the engine holds."""
        me = replace(self.member, address=address or self.member.address)
        self.node = Node(me, b"actor-1.", WALL_MS, CONFIG, self.engine, random.Random(1), WALL_MS)
        self.node.tick(self.now_ms, WALL_MS)

    def turn(self) -> Outbox:
        """The end of a turn."""
        outbox = self.node.end_turn()
        self.engine.commit(outbox.writes)
        return outbox

    def pass_ms(self, duration_ms: int) -> None:
        """Time passes, with the shell's ticks."""
        for _ in range(duration_ms // 100):
            self.now_ms += 100
            self.node.tick(self.now_ms, WALL_MS + self.now_ms)
            self.turn()

    def link(self, *names: str) -> None:
        """There are links to these nodes, and they have spoken."""
        for name in names:
            self.node.connected(name, self.now_ms)
            self.node.greeted(name, self.now_ms)
        go_by_own_clock(self.node)
        self.turn()

    def hear(self, peer: str, kind: bytes, *items: bytes, number: int = 0) -> dict[str, list[list[bytes]]]:
        """A message comes; what is said in the same turn, by node."""
        self.node.receive(peer, [kind, b"0", b"%d" % number, *items], self.now_ms)
        return self.said()

    def said(self) -> dict[str, list[list[bytes]]]:
        """The messages of this turn: kind and items, by node."""
        return {peer: [[m[0], *m[3:]] for m in messages] for peer, messages in self.numbered().items()}

    def numbered(self) -> dict[str, list[list[bytes]]]:
        """The messages of this turn, by node."""
        found: dict[str, list[list[bytes]]] = {}
        for peer, data in self.turn().messages.items():
            reader = FrameReader()
            reader.feed(data)
            while (message := reader.next()) is not None:
                found.setdefault(peer, []).append(message)
        return found

    @property
    def layout(self) -> Layout | None:
        """The present one."""
        return self.node.state.layout


def test_a_fresh_node_takes_a_layout_of_which_it_is_a_member() -> None:
    machine = Machine("n4")
    assert not machine.node.services.membership.offer(layout_of())
    joined = commit(layout_of(), [change(JOIN, "n4")])
    assert machine.node.services.membership.offer(joined)
    machine.turn()
    assert machine.engine.get(META + b"layout") == joined.encode()


def test_a_layout_of_another_cluster_or_an_older_one_changes_nothing() -> None:
    first = layout_of()
    second = commit(first, [change(WEIGHT, "n2", weight=2)])
    machine = Machine(layout=second)
    assert not machine.node.services.membership.offer(commit(layout_of(cluster="d"), [change(WEIGHT, "n3", weight=5)]))
    assert not machine.node.services.membership.offer(first)
    assert not machine.node.services.membership.offer(second)
    assert machine.layout == second


def test_a_layout_made_of_two_goes_to_all_at_once() -> None:
    first = layout_of()
    ours = commit(first, [change(WEIGHT, "n2", weight=2)])
    theirs = commit(first, [change(WEIGHT, "n3", weight=3)])
    machine = Machine(layout=ours)
    machine.link("n2", "n3")
    said = machine.hear("n3", b"LAYOUT", theirs.encode())
    assert machine.layout == merge(ours, theirs)
    for peer in ("n2", "n3"):
        assert [b"LAYOUT", merge(ours, theirs).encode()] in said[peer]
    assert b"LAYOUT" not in [m[0] for m in machine.hear("n3", b"LAYOUT", merge(ours, theirs).encode()).get("n3", [])]


def test_who_makes_a_layout_tells_those_too_who_are_dropped_by_it() -> None:
    machine = Machine(layout=layout_of(NAMES))
    machine.link("n2", "n4")
    without = commit(layout_of(NAMES), [change(REMOVE, "n4")])
    machine.node.services.membership.make(without)
    outbox = machine.turn()
    assert set(outbox.messages) == {"n2", "n4"}
    assert outbox.writes[META + b"layout"] == without.encode()


def test_what_others_say_who_are_no_members_is_not_taken() -> None:
    machine = Machine(layout=layout_of())
    key = storage_key_of(b"key")
    record = supersede(None, b"actor-9.", 5, b"old")
    machine.hear("n4", b"STORE", key, record)
    assert machine.node.state.records.get(key) is None
    machine.hear("n2", b"STORE", key, record)
    assert machine.node.state.records.get(key) == record


def test_a_layout_is_taken_from_whomever_has_one_of_this_cluster() -> None:
    machine = Machine(layout=layout_of())
    theirs = commit(layout_of(), [change(JOIN, "n4")])
    machine.hear("n4", b"LAYOUT", theirs.encode())
    assert machine.layout == theirs
    machine.hear("n5", b"LAYOUT", replace(theirs, epoch=9, cluster="d").encode())
    assert machine.layout == theirs


# --- acting by a layout


def test_adopted_waits_for_what_was_begun_before() -> None:
    machine = Machine(layout=layout_of())
    machine.link("n2", "n3")
    session = machine.node.open_session("c:1", "s:1", machine.now_ms)
    key = next(b"k%d" % n for n in range(100) if machine.node.services.route(b"k%d" % n).coordinator is None)
    machine.node.command(session, [b"SET", key, b"v"], machine.now_ms)
    machine.turn()
    machine.node.services.membership.offer(commit(layout_of(), [change(WEIGHT, "n2", weight=2)]))
    machine.turn()
    view = machine.node.services.membership.view()
    assert machine.node.services.membership.adopted(view) is False
    machine.pass_ms(5000)
    assert machine.node.services.membership.adopted(view) is True
    assert machine.node.services.membership.adopted(LayoutView(1, 0, b"0" * 16)) is None


def test_who_keeps_a_partition_no_more_takes_a_new_actor() -> None:
    machine = Machine(layout=layout_of(NAMES))
    actor = machine.node.state.actor
    more = commit(layout_of(NAMES), [change(JOIN, "n5")])
    machine.node.services.membership.offer(more)
    assert machine.node.state.actor == actor, "former owners still keep what they had"
    machine.node.services.membership.offer(replace(more, revision=2, phase="settled", former=()))
    assert machine.node.state.actor != actor


def test_a_member_is_down_only_for_those_who_have_listened_for_a_while() -> None:
    machine = Machine(layout=layout_of())
    assert not machine.node.services.membership.is_down("n2")
    machine.pass_ms(DOWN_MS - 1000)
    assert not machine.node.services.membership.is_down("n2")
    machine.pass_ms(2000)
    assert machine.node.services.membership.is_down("n2")
    assert machine.node.services.membership.expected() == ["n1", "n3"], "of n3 nothing was asked before"
    machine.link("n2")
    assert not machine.node.services.membership.is_down("n2")


def test_a_node_goes_by_the_name_that_the_layout_gives_it() -> None:
    machine = Machine()
    first = layout_of()
    renamed = replace(first, members=(replace(first.members[0], zone="here", weight=7), *first.members[1:]))
    machine.node.services.membership.offer(renamed)
    assert (machine.node.state.member.zone, machine.node.state.member.weight) == ("here", 7)


# --- leaving


def left() -> tuple[Machine, Layout]:
    """A node that was removed, and the layout that says so."""
    machine = Machine("n4", layout_of(NAMES))
    machine.link("n1")
    machine.node.state.records.merge_all([storage_key_of(b"key"), supersede(None, b"actor-9.", 5, b"old")])
    machine.node.state.hints.keep("n1", [storage_key_of(b"key")], 1, 1, True)
    machine.turn()
    without = commit(layout_of(NAMES), [change(REMOVE, "n4")])
    machine.hear("n1", b"LAYOUT", without.encode())
    return machine, without


def test_a_node_that_was_removed_has_left_for_good() -> None:
    machine, without = left()
    for _ in range(2):
        assert machine.layout is None
        assert b"node n4 has left its cluster at epoch 2" in machine.node.state.no_layout
        with pytest.raises(NoLayout):  # a command of two steps meets that between them (seed 71002583)
            machine.node.services.writes.group_for(
                machine.node.services.route(b"key").plan, machine.node.open_session("", "", 0)
            )
        assert not machine.node.services.membership.offer(layout_of(NAMES)), "that is from before"
        assert not machine.node.services.membership.offer(without)
        assert machine.engine.get(META + b"layout") is None
        assert not machine.node.services.membership.expected()
        machine.pass_ms(3000)
        machine.start()


def test_who_joins_again_brings_nothing_from_its_former_life() -> None:
    machine, without = left()
    again = commit(without, [change(JOIN, "n4")])
    machine.start()
    assert machine.node.services.membership.offer(again)
    machine.pass_ms(1000)
    assert machine.layout == again
    assert machine.node.state.records.keys == machine.node.state.hints.total == 0
    machine.start()
    assert machine.layout == again
    assert machine.engine.get(META + b"left") is None


def test_who_was_let_go_by_one_coordinator_and_not_by_another_is_asked_once_more() -> None:
    leaving = commit(layout_of(NAMES), [change(LEAVE, "n3"), change(LEAVE, "n4")])
    leaving = replace(leaving, revision=2, phase="settled", former=())
    machine = Machine("n4", leaving)
    machine.node.services.membership.offer(release(leaving, ["n4"]))
    machine.turn()
    assert machine.layout is None
    assert machine.node.services.membership.offer(release(leaving, ["n3"]))
    assert machine.layout == release(leaving, ["n3"])


@pytest.mark.parametrize(("text", "leaves"), [
    ("-GONE 2 0 node n1 has been removed", True),
    ("-GONE 1 1 node n1 has been removed", True),
    ("-GONE 1 0 node n1 has been removed", False),
    ("-GONE 0 7 node n1 has been removed", False),
    ("-GONE x y", False),
    ("-ERR node n1 is no member of cluster c at epoch 9", False),
])  # fmt: skip
def test_a_node_leaves_when_a_later_layout_does_without_it(text: str, leaves: bool) -> None:
    machine = Machine(layout=layout_of())
    machine.node.services.membership.refusal_received(text)
    assert (machine.layout is None) == leaves


def test_who_was_a_member_before_all_that_is_remembered_is_told_that_it_was_removed() -> None:
    layout = layout_of()
    for number in range(LOG_MAX):
        layout = commit(layout, [replace(change(WEIGHT, "n2", weight=2 + number % 2), id=f"{number}")])
    assert layout.log[0].epoch == 2
    refusal = Machine(layout=layout).node.services.membership.refusal
    assert refusal("n9", "c", [b"1", b"5"]).startswith(f"GONE {layout.epoch} 0 ")
    assert refusal("n9", "c", [b"2", b"0"]) == "", "a change of that epoch may be unknown here"
    assert refusal("n9", "c") == "", "an older node tells no version"


def test_a_node_introduces_itself_with_the_version_of_its_layout() -> None:
    machine = Machine(layout=commit(layout_of(), [change(WEIGHT, "n2", weight=2)]))
    incarnation = machine.node.state.incarnation
    assert machine.node.services.membership.introduction() == ("c", "n1", incarnation, 2, 0)
    assert Machine("n5").node.services.membership.introduction()[:2] == ("", "n5")


def test_who_is_no_member_is_refused_and_told_why() -> None:
    first = layout_of(NAMES)
    machine = Machine(layout=commit(first, [change(LEAVE, "n2"), change(REMOVE, "n4")]))
    refusal = machine.node.services.membership.refusal
    assert refusal("n3", "c") == refusal("n2", "c") == refusal("n3", "") == ""
    assert refusal("n4", "c").startswith("GONE 2 0 ")
    assert refusal("n9", "c") == ""
    assert refusal("n9", "").startswith("ERR node n9 is no member of cluster c at epoch 2")
    assert refusal("n4", "c", [b"1", b"7"]).startswith("GONE 2 0 ")
    assert refusal("n4", "c", [b"1", b"x"]).startswith("GONE 2 0 ")
    assert refusal("n4", "c", [b"2", b"0"]) == refusal("n4", "c", [b"3", b"0", b"later"]) == "", (
        "it may have come again"
    )
    assert refusal("n9", "c", [b"1", b"0"]) == "", "what it knows was made elsewhere"
    assert refusal("n3", "d") == "ERR this node belongs to cluster c, not to d"
    assert Machine("n5").node.services.membership.refusal("n1", "c") == ""


def _word(item: object) -> bytes:
    return item if isinstance(item, bytes) else str(item).encode()
