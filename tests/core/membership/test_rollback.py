"""How far a node had got: which stores are taken for older copies, and what is written and told of marks."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from server.core.base.state import SET_BACK
from server.core.membership.rollback import HOLD_MS, MARK_MS, OWN_MAX, SAVE_MS, SENT_MAX, THEIRS_MAX, Mark
from server.core.records.records import META, storage_key_of
from server.core.records.versions import supersede
from server.shell.introductions import WORD_BYTES_MAX
from tests.core.membership.test_membership import WALL_MS, Machine, layout_of, member

MARK = (300, 70)
MANY = [(400 + number, 1) for number in range(OWN_MAX)]


def words(marks: list[Mark]) -> list[bytes]:
    """What an introduction says behind the incarnation."""
    return [b"7", b"0", b"FOR", b"n1", b"LIVES", b",".join(b"%d:%d" % mark for mark in marks)]


@pytest.mark.parametrize(
    ("marks", "is_taken"),
    [
        ([(100, 9), (200, 50), (300, 70)], True),  # as far
        ([(300, 71)], True),  # further
        ([(100, 9), (300, 70), (350, 2)], True),  # a restart
        ([(100, 9), (300, 69)], False),  # one mark behind
        ([(100, 9), (200, 50)], False),  # from before that incarnation
        ([(100, 9), (200, 50), (350, 900)], False),  # the same, and it ran by itself since
        ([(350, 900)], True),  # another store
        ([], True),  # a wiped disk
        ([*MANY[1:], (200, 50)], False),
        ([*MANY[1:], (399, 1)], True),  # as many as a store remembers, all of them later
    ],
)
def test_who_has_gone_back(marks: list[Mark], is_taken: bool) -> None:
    machine = Machine(layout=layout_of())
    known = machine.node.services.rollback
    assert known.refusal("n2", words([(100, 9), (200, 50)])) == "", "of whom nothing is known"
    machine.hear("n2", b"MARK", b"300", number=70)
    refusal = known.refusal("n2", words(marks))
    assert refusal.startswith("" if is_taken else "SETBACK 300 70 1 the directory of node n2 is an older copy")
    assert bool(refusal) is not is_taken
    assert known.refusal("n2", [b"7", b"0", b"FOR", b"n1"]) == "", "an older version tells nothing"
    assert known.refusal("n3", words([(1, 1)])) == "", "of another node"


def test_a_node_that_was_restarted_often_is_accepted_by_all_versions() -> None:
    first, turns = 1_700_000_000_000, 10**12  # a start in 2023; a year of 30,000 turns a second
    often = [(first + number, turns) for number in range(100)]
    machine = Machine(layout=layout_of())
    machine.engine.commit({META + b"lives": json.dumps(often).encode()})
    machine.start()
    word = machine.node.services.rollback.introduction()[1]
    assert len(word) <= 512, "what the versions before accept"
    assert word.split(b",")[-1].startswith(b"%d:" % often[-1][0])
    longest = [(first + number, turns) for number in range(THEIRS_MAX)]
    assert max(map(len, words(longest))) <= WORD_BYTES_MAX, "a store of a version that remembered more"
    machine.hear("n2", b"MARK", b"%d" % longest[-1][0], number=turns)
    assert machine.node.services.rollback.refusal("n2", words(longest)) == "", "the last of them counts"


def test_a_mark_of_another_store_takes_the_place_of_the_former_one() -> None:
    machine = Machine(layout=layout_of())
    machine.hear("n2", b"MARK", b"300", number=70)
    assert machine.node.services.rollback.refusal("n2", words([(500, 1)])) == ""
    assert machine.node.services.rollback.refusal("n2", words([(500, 1), (501, 1)])) == "", "it has told no mark yet"
    machine.hear("n2", b"MARK", b"501", number=5)
    assert machine.node.services.rollback.refusal("n2", words([(300, 80)])).startswith("SETBACK 501 5")


def store(machine: Machine, key: bytes = b"key") -> None:
    machine.node.state.records.merge_all([storage_key_of(key), supersede(None, b"actor-9.", 5, key)])


def marks(machine: Machine, duration_ms: int) -> list[list[bytes]]:
    """The marks that n2 is told meanwhile: the life."""
    found = []
    for _ in range(duration_ms // 100):
        machine.now_ms += 100
        machine.node.tick(machine.now_ms, WALL_MS + machine.now_ms)
        found += [m[2:] for m in machine.numbered().get("n2", []) if m[0] == b"MARK"]
    return found


def test_a_mark_is_told_once_it_is_synced_and_written_only_if_records_have_changed() -> None:
    machine = Machine(layout=layout_of())
    machine.link("n2")
    assert not marks(machine, 3 * MARK_MS), "a layout is no record"
    assert machine.node.services.rollback.introduction() == (b"LIVES", b"")
    store(machine)
    assert not marks(machine, 2 * MARK_MS), "it is not synced"
    assert machine.engine.get(META + b"lives") is not None
    machine.node.synced(machine.node.state.statistics.turns)
    [[turn, life]] = marks(machine, 2 * MARK_MS)
    assert machine.node.services.rollback.introduction() == (b"LIVES", b"%b:%b" % (life, turn))
    machine.node.synced(machine.node.state.statistics.turns)
    assert not marks(machine, 3 * MARK_MS), "nothing has changed since"
    machine.hear("n2", b"MARK", b"300", number=70)
    assert not marks(machine, 2 * SAVE_MS), (
        "what is remembered of others is no change, or two would keep each other busy"
    )
    assert machine.engine.get(META + b"peers_lives") is not None
    machine.start()
    assert machine.node.services.rollback.introduction() == (b"LIVES", b"%b:%b" % (life, turn))
    assert machine.node.services.rollback.refusal("n2", words([(300, 69)])).startswith("SETBACK 300 70"), (
        "it is remembered"
    )


def test_in_a_large_cluster_each_member_gets_a_mark_in_turn() -> None:
    layout = layout_of()
    names = [f"m{number}" for number in range(1000, 1400)]
    others = [replace(member("n4"), id=name, name=name, address=f"{name}:7") for name in names]
    machine = Machine(layout=replace(layout, members=(*others, *layout.members)))
    told: dict[str, int] = dict.fromkeys(names, 0)
    machine.link(*told)
    for second in range(6):  # the node is written to all the time
        store(machine, b"key %d" % second)
        for _ in range(MARK_MS // 100):
            machine.now_ms += 100
            machine.node.tick(machine.now_ms, WALL_MS + machine.now_ms)
            sent = [peer for peer, messages in machine.numbered().items() if any(m[0] == b"MARK" for m in messages)]
            assert len(sent) <= SENT_MAX
            told |= {peer: told[peer] + 1 for peer in sent}
            machine.node.synced(machine.node.state.statistics.turns)
    assert min(told.values()) >= 2, f"{sum(not count for count in told.values())} members were told no mark"


def test_a_store_of_the_version_before_has_a_life_too() -> None:
    machine = Machine(layout=layout_of())
    machine.start()
    assert machine.node.services.rollback.introduction() == (b"LIVES", b"0:0")


def test_a_node_believes_only_what_its_own_store_bears_out() -> None:
    machine = Machine(layout=layout_of())
    detector = machine.node.services.rollback
    store(machine)
    machine.pass_ms(2 * MARK_MS)
    life = str(WALL_MS)
    for nonsense in ("SETBACK", "SETBACK a b c", f"SETBACK {life} 1 0 as far", f"SETBACK {10**30} 1 0"):
        machine.node.services.addresses.refusal_received("n2", nonsense, machine.now_ms)
        assert not detector.refusers
    for later_ms, others in ((0, 0), (HOLD_MS - 1, 0), (1, 1), (0, 0), (HOLD_MS - 1, 0)):
        machine.now_ms += later_ms
        machine.node.services.addresses.refusal_received(
            "n2", f"-SETBACK {life} 999999 {others} it is older", machine.now_ms
        )
        assert not detector._state.rebuild_reason
    machine.now_ms += 1
    machine.node.services.addresses.refusal_received("n2", f"-SETBACK {life} 999999 0 it is older", machine.now_ms)
    assert detector._state.rebuild_reason == SET_BACK
