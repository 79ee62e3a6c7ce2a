"""What the checker of contexts says of small histories, written by hand (P3)."""

from __future__ import annotations

import pytest

from protocol.tokens import encode_context
from server.core.records import versions
from server.core.records.records import storage_key_of
from tests.sim.answers import check_contexts
from tests.sim.checkers import Writes
from tests.sim.clients import History, Operation
from tests.sim.disk import Change, Disk
from tests.sim.events import Events
from tests.sim.evidence import Evidence
from tests.sim.forgetting import Forgotten
from tests.sim.intents import intents_of
from tests.sim.rings import FixedRing

KEY = b"key"
HERE, THERE = b"h" * versions.ACTOR_BYTES, b"t" * versions.ACTOR_BYTES
SECOND_ATTEMPT = encode_context(KEY, [(HERE, 2)])


@pytest.mark.parametrize(
    ("began_step", "values", "is_right"),
    [
        (10, [b"key=b"], True),
        (10, [], False),  # nothing says that there was a second attempt
        (10, [b"key=z"], False),
        (31, [b"key=b"], False),  # a turn that began after all the writes were answered was not theirs
    ],
)
def test_a_context_may_stand_on_a_second_attempt_that_came_to_no_disk(
    began_step: int, values: list[bytes], is_right: bool
) -> None:
    """Another node has done the write of b and been lost; here it was done again, read, and overwritten in one turn."""
    events, log = Events(), list[Change]()
    here, there = Disk("here", log, events), Disk("there", log, events)
    history = History()
    for step, disk, actor, counter, value in (
        (5, here, HERE, 1, b"a"),
        (15, there, THERE, 1, b"b"),
        (30, here, HERE, 3, b"c"),
    ):
        events.step = step
        disk.commit({storage_key_of(KEY): _record(actor, counter, b"key=" + value)})
        history.operations.append(_asked([b"SET", KEY, b"key=" + value], min(step, 10), max(step, 30), b"OK"))
    history.operations.append(_asked([b"DYN.GET", KEY], began_step, max(began_step, 30), [SECOND_ATTEMPT, values]))
    evidence = Evidence(log, [here, there])
    forgotten = Forgotten(evidence, FixedRing(lambda key: ["here", "there"]), lambda now_ms: now_ms)
    writes = Writes(intents_of(history, 1, 2), evidence, forgotten)
    faults = check_contexts(history, evidence, writes, lambda now_ms: now_ms)
    assert ["the context covers b'key=a', which its holder has not seen" in fault for fault in faults] == [True] * (
        not is_right
    )


def _record(actor: bytes, counter: int, value: bytes) -> bytes:
    return versions.encode({HERE: 1} | {actor: counter}, [versions.Sibling(actor, counter, 0, versions.VALUE, value)])


def _asked(args: list[bytes], begin: int, end: int, reply: object) -> Operation:
    return Operation("c", 1, "here", 1, args, begin, begin, answered_ms=end, answered_step=end, reply=reply)
