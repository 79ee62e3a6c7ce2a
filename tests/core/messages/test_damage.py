"""Every kind of message, question and answer with each of its fields damaged in turn: it is refused, and nothing changes.

The messages are made from the table of kinds (sampler.py). A kind that is added there is tested here; if it carries words
or documents that mean something, it says which in `MEANINGS`.
"""

from __future__ import annotations

import enum
import json
import random
from collections.abc import Iterator, Sequence
from types import FunctionType, MethodType
from typing import Any

import pytest
from xxhash import xxh3_64_hexdigest

from server.core.messages.asking import Question
from server.core.messages.questions import KINDS, QUESTIONS
from server.core.messages.queues import PUT_BACK
from server.core.messages.reader import Malformed
from server.core.work.procedures import Procedure
from tests.core.membership.test_membership import Machine, layout_of
from tests.core.messages.reading import read
from tests.core.messages.sampler import Item, Meaning, damaged, sample
from tests.core.messages.samples import (
    DOCUMENTS,
    KEYS,
    LIBRARIES,
    NUMBERINGS,
    RECORD,
    STAGED,
    USERS,
    WRONG_TIMES,
    damaged_documents,
    damaged_layouts,
    damaged_libraries,
    damaged_numberings,
    damaged_records,
    damaged_rules,
    next_layout,
    wrong_structures,
)

STAGED_MEANING = Meaning([json.dumps(STAGED).encode()], list(damaged_documents(STAGED)))
REPLY_DAMAGES = [
    b"",
    b"OK",
    b"+OK",
    b"$5\r\nab\r\n",
    b"*2\r\n+OK\r\n",
    b"+OK\r\n+OK\r\n",
    b"$-2\r\n",
    b"*9999999999\r\n",
]
SPAN = bytes(4) + b"\0\0\0\1"
NUMBERS_MEANING = Meaning([json.dumps(NUMBERINGS).encode()], [*damaged_documents(NUMBERINGS), *damaged_numberings()])
MEANINGS: dict[bytes, Meaning] = {
    b"GOSSIP": Meaning([b"n2 5 6 up", b"n3 5 6 down"], [b"", b"n2 5 6", b"n2 -5 6 up", b"\xff 5 6 up", b"n2 5 6 gone"]),
    b"LAYOUT": Meaning([next_layout(3).encode()], damaged_layouts()),
    b"STAGED": STAGED_MEANING,
    b"USERS": Meaning([json.dumps(USERS).encode()], [*damaged_documents(USERS), *damaged_rules()]),
    b"LIBRARIES": Meaning([json.dumps(LIBRARIES).encode()], [*damaged_documents(LIBRARIES), *damaged_libraries()]),
    b"LIBVIEW": Meaning([b"0" * 32]),
    b"NUMBERS": NUMBERS_MEANING,
    b"NUMVIEW": Meaning([b"0" * 32]),
    b"USERSVIEW": Meaning([b"0" * 32]),
    b"VIEW": Meaning([b"0" * 16]),
    b"PUBLISHED": Meaning(left=6),
    b"TIMED": Meaning([b"1800000000000"], [*WRONG_TIMES, b"9" * 20]),
    b"RELAY": Meaning([[b"1", b"2", b"2", b"1"]], [[], [b"1"], [b"2", b"2", b"2"], [b"1", b"-1", b"2"], [b"1"] * 5]),
    b"RELAYED": Meaning([bytes(4), b"+OK\r\n"], REPLY_DAMAGES),
    b"READ": Meaning([bytes(8)]),
    b"WAKE": Meaning([bytes(8), b"key"]),
    b"ESCROW": Meaning([[PUT_BACK, b"k", b"n:1", b"LEFT", b"v"]], [[], [PUT_BACK, b"k"], [b"FLUSHALL"] * 5]),
    b"COMPARE": Meaning([bytes(16)], [bytes(8), bytes(24)]),
    b"DIFFER": Meaning([b"++"], [b"", b"+", b"+++", b"+=", b"?!", b"++=x"]),
}
QUESTION_MEANINGS: dict[bytes, Meaning] = {
    b"PAGE": Meaning([b"\0\0", b"\x40\0"], [b"\0", b"\xff\xff", b"\x40\0\0\1"], 1),
    b"KEYCOUNTS": Meaning(),
    b"HASHES": Meaning([SPAN]),
    b"LIST": Meaning([b"c", b"\0\0", b"\x40\0"], [b"\0", b"\xff\xff", b"\x40\0\0\1"], 2),
    b"HOLDS": Meaning(left=2),
    b"VOTE": Meaning(left=2),
    b"DROP": Meaning(left=2),
    b"FENCE": Meaning(left=2),
    b"WHOLE": Meaning(left=2),
    b"COUNTS": Meaning(left=1, shifts=True),
    b"REPAIR": Meaning([b"go"], left=1),
    b"HINTS": Meaning(left=1),
    b"TASKS": Meaning(left=2),
    b"PAUSE": Meaning([b"PAUSE"], left=1),
    **{kind: Meaning([b"0" * 16], left=3) for kind in (b"ADOPTED", b"MOVED", b"EMPTY")},
    b"STAGED": STAGED_MEANING,
    b"SWAP": Meaning(
        [b"0" * 24, json.dumps(NUMBERINGS).encode()], [b"", b"0" * 23, b"0" * 23 + b"g", *damaged_numberings()]
    ),
    b"KNOWSWAPS": Meaning(left=2),
    b"NUMBERED": NUMBERS_MEANING,
}
ANSWER_MEANINGS: dict[bytes, Meaning] = {
    b"PAGE": Meaning([b"live", bytes(6)]),
    b"KEYCOUNTS": Meaning([bytes(16)]),
    b"LIST": Meaning([b"0", KEYS[0], RECORD[:8] + KEYS[0]], [b"x", b"\xff" * 20], shifts=True),
    b"COUNTS": Meaning(left=1),
    b"MERGE": Meaning(left=2),
    b"COPIES": Meaning([b"=" + RECORD, b"-"], [b"", b"?", *[b"=" + record for record in damaged_records()]]),
    b"VOTE": Meaning([b"\1"], [b"\2", b""]),
    b"SWAP": NUMBERS_MEANING,
    b"NUMBERED": NUMBERS_MEANING,
    b"KNOWSWAPS": Meaning([b"\1\0"], [b"\2\0", b"", b"\1"]),
    b"WRITERS": Meaning([bytes(16)]),
    b"HOLDS": Meaning([b"\0"], [b"\xff", b""]),
    b"LINE": Meaning([b"77"], [b"x", b"-1", b"9" * 19]),
    **{
        kind: Meaning([json.dumps(value).encode()], list(damaged_documents(value))) for kind, value in DOCUMENTS.items()
    },
}


@pytest.fixture(scope="module")
def machine() -> Machine:
    """Returns one member of three, with links to the others. Tests must not change it."""
    machine = Machine(layout=layout_of())
    machine.link("n2", "n3")
    return machine


def _bytes_of(value: Any) -> bytes | None:
    """Returns the numbers of an array."""
    try:
        return memoryview(value).tobytes()
    except TypeError:
        return None


def state_of(root: object) -> str:
    """Returns everything that is reachable from an object, without functions and the generators of procedures."""
    seen: dict[int, int] = {}

    def walk(value: object) -> Iterator[str]:
        if value is None or isinstance(value, (int, float, str, bytes, enum.Enum, range, type)):
            yield repr(value)
        elif id(value) in seen:
            yield f"<{seen[id(value)]}>"
        elif not isinstance(value, (FunctionType, MethodType)) and not callable(value):
            seen[id(value)] = len(seen)
            yield type(value).__name__
            parts: Sequence[object] = ()
            if (numbers := _bytes_of(value)) is not None:
                yield xxh3_64_hexdigest(numbers)
            elif isinstance(value, dict):
                parts = [part for pair in value.items() for part in pair]
            elif isinstance(value, random.Random):
                parts = [value.getstate()]
            elif hasattr(value, "__iter__") and hasattr(value, "__len__"):
                parts = sorted(value) if isinstance(value, (set, frozenset)) else list(value)
            for part in parts:
                yield from walk(part)
            slots = [name for kind in type(value).__mro__ for name in getattr(kind, "__slots__", ())]
            for name in (*getattr(value, "__dict__", {}), *slots):
                yield name
                yield from walk(getattr(value, name, None))

    return "\n".join(walk(root))


def _refused(machine: Machine, message: list[Any], what: str) -> None:
    with pytest.raises(Malformed):
        machine.node.receive("n2", message, machine.now_ms + 1)
        pytest.fail(f"taken: {what}")


def _numbers(kind: bytes, items: Sequence[Item], damages: Sequence[int]) -> Iterator[tuple[str, list[Any]]]:
    """Returns messages with damaged headers."""
    values = [item.value for item in items]
    for damage in (b"", b"-1", b"x", b"\xff", b"9" * 30, None, 5, [b"1"]):
        yield f"clock {damage!r}", [kind, damage, b"1", *values]
        yield f"number {damage!r}", [kind, b"0", damage, *values]
    yield "a clock 800 years ahead", [kind, b"%d" % (1 << 60), b"1", *values]
    for number in damages:
        yield f"number {number}", [kind, b"0", b"%d" % number, *values]
    yield "only a kind", [kind]
    yield "no number", [kind, b"0"]
    yield "a kind of another type", [[kind], b"0", b"1", *values]


@pytest.mark.parametrize("name", [kind for kind in KINDS if kind not in (b"ASK", b"ANSWER")], ids=bytes.decode)
def test_a_damaged_message_changes_nothing(machine: Machine, name: bytes) -> None:
    sampler = sample(KINDS[name].read, MEANINGS.get(name, Meaning()))
    before = state_of(machine.node)
    count = 0
    for what, items in damaged(sampler):
        _refused(machine, [name, b"0", b"1", *items], what)
        count += 1
    for what, message in _numbers(name, sampler.items, sampler.number_damages):
        _refused(machine, message, what)
    assert state_of(machine.node) == before
    assert count >= 3
    fresh = Machine(layout=layout_of())
    fresh.link("n2", "n3")
    fresh.node.receive("n2", [name, b"0", b"1", *[item.value for item in sampler.items]], fresh.now_ms + 1)
    assert state_of(fresh.node) != before, "the sound one is taken"


def message_of(name: bytes) -> list[Any]:
    """Returns the items of a sound message of that kind."""
    if name == b"ASK":
        return [b"EMPTY", *question_of(b"EMPTY")]
    return [item.value for item in sample(KINDS[name].read, MEANINGS.get(name, Meaning())).items]


def question_of(name: bytes) -> list[bytes]:
    """Returns the items of a sound question of that kind."""
    return [item.value for item in sample(QUESTIONS[name].read, QUESTION_MEANINGS.get(name, Meaning())).items]


def answer_of(name: bytes) -> list[bytes]:
    """Returns the items of a sound answer to `question_of(name)`."""
    question, asked = QUESTIONS[name], question_of(name)
    meaning = ANSWER_MEANINGS.get(name, Meaning())
    return [item.value for item in sample(lambda items: question.read_answer(items, asked), meaning).items]


@pytest.mark.parametrize("name", QUESTIONS, ids=bytes.decode)
def test_a_damaged_question_changes_nothing(machine: Machine, name: bytes) -> None:
    sampler = sample(QUESTIONS[name].read, QUESTION_MEANINGS.get(name, Meaning()))
    before = state_of(machine.node)
    for what, items in damaged(sampler):
        _refused(machine, [b"ASK", b"0", b"1", name, *items], what)
    for damage in (None, 5, [name]):
        _refused(machine, [b"ASK", b"0", b"1", damage, *question_of(name)], f"kind {damage!r}")
    _refused(machine, [b"ASK", b"0", b"1"], "no kind")
    assert state_of(machine.node) == before
    fresh = Machine(layout=layout_of())
    fresh.link("n2", "n3")
    fresh.node.receive("n2", [b"ASK", b"0", b"1", name, *question_of(name)], fresh.now_ms + 1)
    outbox = fresh.turn()
    said = outbox.messages.get("n2", b"") + b"".join(outbox.large.get("n2", []))
    assert b"ANSWER" in said, "the sound one is answered"


@pytest.mark.parametrize(
    ("name", "items"),
    [
        (b"KEYCOUNTS", [b"128", b"0"]),
        (b"PAGE", [b"\0\0", b"\x40\0", b"10", b"live", b"0"]),
        (b"TASKS", [b"task", b"ABORT"]),
        (b"PAUSE", [b"PAUSE", b"task"]),
    ],
    ids=lambda value: value.decode() if isinstance(value, bytes) else "",
)
def test_a_sound_item_too_many_is_refused_behind_the_optional_ones(
    machine: Machine, name: bytes, items: list[bytes]
) -> None:
    """The sampler reads no optional items, so an item that it adds may be read as one of these."""
    read(QUESTIONS[name], *items)
    for further in (b"0", b"5", items[-1]):
        _refused(machine, [b"ASK", b"0", b"1", name, *items, further], f"{further!r} is too many")


class Asker:
    """A procedure that notes the answer it gets."""

    resp3 = relayed = denies_blocking = False
    origin = kept_numbering = None
    read_quorum = write_quorum = space = 0

    def __init__(self) -> None:
        self.got: list[Any] = []

    def answer(self, number: int, reply: Any) -> None:
        self.got.append(reply)


def _ask(machine: Machine, name: bytes, asker: Asker) -> int:
    """Asks n2, and returns the number of the question."""

    def steps() -> Any:
        answers = yield machine.node.services.questions.ask(
            ["n2"], QUESTIONS[name], read(QUESTIONS[name], *question_of(name))
        )
        return answers

    Procedure(machine.node.state, "asking", steps(), asker, 0).start()  # type: ignore[arg-type]
    return max(machine.node.services.questions._rows)


@pytest.mark.parametrize("name", QUESTIONS, ids=bytes.decode)
def test_a_damaged_answer_changes_nothing_and_the_question_waits_on(machine: Machine, name: bytes) -> None:
    question: Question[Any, Any] = QUESTIONS[name]
    asked = question_of(name)
    sampler = sample(lambda items: question.read_answer(items, asked), ANSWER_MEANINGS.get(name, Meaning()))
    asker = Asker()
    number = b"%d" % _ask(machine, name, asker)
    machine.turn()
    before = state_of(machine.node)
    for what, items in damaged(sampler):
        if items:  # an answer without items says that there is none
            _refused(machine, [b"ANSWER", b"0", number, *items], what)
    assert state_of(machine.node) == before
    assert not asker.got
    machine.hear("n2", b"ANSWER", *[item.value for item in sampler.items], number=int(number))
    assert list(asker.got[0]) == ["n2"], "the sound one is taken"
    assert asker.got[0]["n2"] is not None


def test_kinds_and_questions_that_only_newer_nodes_know_are_passed_over(machine: Machine) -> None:
    assert machine.hear("n2", b"NEWS", b"x", number=1) == {}
    assert machine.hear("n2", b"ASK", b"NEWS", b"x", number=1) == {"n2": [[b"ANSWER"]]}
    assert machine.hear("n2", b"ANSWER", b"x", number=99_999) == {}


@pytest.mark.parametrize("what", wrong_structures())
def test_a_record_of_a_wrong_structure_is_stored_nowhere(what: str) -> None:
    machine = Machine(layout=layout_of())
    machine.link("n2", "n3")
    for kind, items in ((b"STORE", []), (b"KEEP", []), (b"HINT", [b"n3"]), (b"ASK", [b"MERGE", b"1"])):
        with pytest.raises(Malformed, match="structure is wrong"):
            machine.hear("n2", kind, *items, KEYS[0], wrong_structures()[what], number=1)
    assert machine.node.state.records.get(KEYS[0]) is None
    assert not machine.turn().writes
