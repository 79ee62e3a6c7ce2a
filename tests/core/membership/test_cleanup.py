"""Cleanup, one question at a time: what a keeper confirms, what is let go, and what has to wait."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace

import pytest

from server.core.messages.reader import Malformed
from server.core.messages.record_questions import HOLDS
from server.core.records.records import storage_key_of
from server.core.records.versions import supersede
from server.core.ring.change import JOIN
from server.core.ring.layout import Layout
from server.core.ring.succession import commit
from tests.core.membership.test_membership import NAMES, Machine, change, layout_of
from tests.core.messages.reading import read

MOVED = replace(commit(layout_of(NAMES), [change(JOIN, "n5")]), revision=2, phase="settled", former=())
OLD, NEW = (supersede(None, b"actor-9.", number, b"value") for number in (5, 6))


def key_of(layout: Layout, keeps: bool) -> bytes:
    """The storage key of some key that n1 keeps by this layout, or does not."""
    keys = (storage_key_of(b"k%d" % number) for number in range(1000))
    return next(k for k in keys if ("n1" in layout.keepers(layout.partition_of(int.from_bytes(k[:2], "big")))) == keeps)


STRAY, KEPT = key_of(MOVED, False), key_of(MOVED, True)


def holding(record: bytes = OLD) -> Machine:
    """A node with links to all, which holds a record that it does not keep, and one that it keeps."""
    machine = Machine(layout=MOVED)
    machine.link("n2", "n3", "n4", "n5")
    machine.node.state.records.merge_all([STRAY, record, KEPT, record])
    machine.node.state.cleanup_due = True
    machine.turn()
    return machine


def questions(machine: Machine, kind: bytes) -> dict[str, tuple[int, list[bytes]]]:
    """What is asked next: number and arguments of questions of that kind, by node."""
    found: dict[str, tuple[int, list[bytes]]] = {}
    for _ in range(30):
        machine.now_ms += 100
        for peer in ("n2", "n3", "n4", "n5"):
            machine.node.greeted(peer, machine.now_ms)
        machine.node.tick(machine.now_ms, 1_800_000_000_000 + machine.now_ms)
        for peer, messages in machine.numbered().items():
            for message in messages:
                if message[0] == b"ASK" and message[3] == kind:
                    found[peer] = (int(message[2]), message[4:])
        if found:
            return found
    return found


def answer(machine: Machine, asked: dict[str, tuple[int, list[bytes]]], *words: bytes) -> dict[str, list[list[bytes]]]:
    """All who were asked answer the same; what is said then."""
    for peer, (number, _) in asked.items():
        machine.node.receive(peer, [b"ANSWER", b"0", b"%d" % number, *words], machine.now_ms)
    return machine.numbered()


def test_a_keeper_confirms_exactly_what_it_holds_and_keeps() -> None:
    machine = holding()
    holds = machine.node.services.cleanup.holds
    assert holds(read(HOLDS, b"2", KEPT, OLD[:8], STRAY, OLD[:8])) == bytes((1, 0))
    assert holds(read(HOLDS, b"2", KEPT, NEW[:8])) == bytes(1)
    assert holds(read(HOLDS, b"1", KEPT, OLD[:8])) is None, "under another layout nothing is confirmed"


def test_what_all_keepers_confirm_is_let_go_and_nothing_else() -> None:
    machine = holding()
    assert machine.node.services.cleanup.remaining() == 1
    asked = questions(machine, b"HOLDS")
    keepers = MOVED.keepers(MOVED.partition_of(int.from_bytes(STRAY[:2], "big")))
    assert sorted(asked) == sorted(keepers)
    assert all(args == [b"2", STRAY, OLD[:8]] for _, args in asked.values())
    answer(machine, asked, b"\1")
    assert machine.node.state.records.get(STRAY) is None
    assert machine.node.state.records.get(KEPT) == OLD
    assert machine.node.services.cleanup.remaining() == 0


def test_what_a_keeper_lacks_is_brought_there_first() -> None:
    machine = holding()
    asked = questions(machine, b"HOLDS")
    said = answer(machine, asked, b"\0")
    for _ in asked:
        brought = {
            p: (int(m[2]), m[4:]) for p, ms in said.items() for m in ms if m[:1] == [b"ASK"] and m[3] == b"ABSORB"
        }
        assert len(brought) == 1
        assert next(iter(brought.values()))[1] == [STRAY, OLD]
        assert machine.node.state.records.get(STRAY) == OLD
        said = answer(machine, brought, b"1")
    assert machine.node.state.records.get(STRAY) is None


@pytest.mark.parametrize("words", [(), (b"",), (b"\1\1",)])
def test_without_a_sound_answer_of_each_nothing_goes(words: tuple[bytes, ...]) -> None:
    machine = holding()
    with pytest.raises(Malformed) if words else nullcontext():
        answer(machine, questions(machine, b"HOLDS"), *words)
    machine.pass_ms(10_000)
    assert machine.node.state.records.get(STRAY) == OLD
    assert questions(machine, b"HOLDS"), "it is tried again"


def test_a_keeper_that_takes_nothing_makes_it_wait() -> None:
    machine = holding()
    said = answer(machine, questions(machine, b"HOLDS"), b"\0")
    brought = {p: (int(m[2]), m[4:]) for p, ms in said.items() for m in ms if m[:1] == [b"ASK"] and m[3] == b"ABSORB"}
    answer(machine, brought)
    assert machine.node.state.records.get(STRAY) == OLD


def test_what_has_changed_since_it_was_confirmed_stays() -> None:
    machine = holding()
    asked = questions(machine, b"HOLDS")
    machine.node.state.records.merge_all([STRAY, NEW])
    answer(machine, asked, b"\1")
    assert machine.node.state.records.get(STRAY) is not None


def test_what_a_hint_is_about_stays_and_nobody_is_asked() -> None:
    machine = holding()
    keeper = MOVED.keepers(MOVED.partition_of(int.from_bytes(STRAY[:2], "big")))[0]
    machine.node.state.hints.keep(keeper, [STRAY], 1, 1, True)
    assert not questions(machine, b"HOLDS")
    assert machine.node.state.records.get(STRAY) == OLD


def test_a_new_layout_in_between_voids_what_was_confirmed() -> None:
    machine = holding()
    asked = questions(machine, b"HOLDS")
    machine.node.services.membership.offer(replace(MOVED, revision=3))
    answer(machine, asked, b"\1")
    assert machine.node.state.records.get(STRAY) == OLD
