"""What is done for large records before their message is handled."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import pytest

from server.core.records import entry_structure, versions
from server.core.records.draft import Draft
from server.core.records.kinds import HASH
from server.core.records.preparing import prepare
from server.core.records.records import Records, storage_key_of
from server.storage.memory import MemoryEngine

SIZE = 12_000
CALLS_MAX = 80_000  # of a slice: some 16 ms in the sources
KEY = storage_key_of(b"key")
NUMBER = b"7"


def _record(actor: bytes, prefix: bytes = b"f", base: bytes | None = None, size: int = SIZE) -> bytes:
    draft = Draft(base, 1000, HASH)
    for number in range(size):
        draft.put(b"%b%05d" % (prefix, number), actor)
    return draft.record(actor, 5)


ONE, OTHER = _record(b"actor--1"), _record(b"actor--2", b"g")
SMALL_CHANGES = [_record(actor, actor[-1:], ONE, 1) for actor in (b"actor--3", b"actor--4")]


@pytest.fixture(autouse=True)
def _nothing_is_known() -> Iterator[None]:
    entry_structure._known.clear()
    yield
    entry_structure._known.clear()


def _records(record: bytes | None) -> Records:
    records = Records(MemoryEngine(), 64 << 20, RuntimeError)
    records.open()
    if record is not None:
        records.put(KEY, record, None)
    return records


def _calls(work: Any) -> int:
    calls = 0

    def note(frame: Any, event: str, argument: Any) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(None)
    return calls


def _slices(records: Records, message: list[Any]) -> list[int]:
    """The calls of each slice."""
    slices, work, done = [], prepare(records, message), [False]

    def go_on() -> None:
        done[0] = next(work, done) is done

    while not done[0]:
        slices.append(_calls(go_on))
    return slices


@pytest.mark.interpreted
@pytest.mark.parametrize(
    ("stored", "sent"),
    [(None, ONE), (ONE, OTHER), (ONE, _record(b"actor--2")), tuple(SMALL_CHANGES)],
    ids=["new", "other fields", "the same fields", "a field each"],
)
def test_no_slice_is_long_and_little_is_left_for_the_handler(stored: bytes | None, sent: bytes) -> None:
    records = _records(stored)
    assert max(_slices(records, [b"STORE", b"1", NUMBER, KEY, sent])) <= CALLS_MAX
    left = _calls(lambda: (versions.verify(sent), records.merge_all([KEY, sent])))
    assert left < CALLS_MAX // 2
    assert records.get(KEY) == versions.merge(stored, sent)


def test_to_join_records_that_differ_in_few_fields_decodes_little() -> None:
    assert _calls(lambda: versions.merge(*SMALL_CHANGES)) < SIZE  # each entry costs some calls


def test_what_was_stored_meanwhile_is_joined_too() -> None:
    records = _records(ONE)
    for _ in prepare(records, [b"STORE", b"1", NUMBER, KEY, OTHER]):
        pass
    late = _record(b"actor--9", b"h", None, 10)
    records.merge_all([KEY, late])
    records.merge_all([KEY, OTHER])
    assert records.get(KEY) == versions.merge(versions.merge(ONE, late), OTHER)


def test_what_is_no_record_or_contradicts_another_one_is_left_to_the_handler() -> None:
    records = _records(ONE)
    contradiction = _record(b"actor--1", b"x")
    cut = OTHER[: len(OTHER) // 2]
    for item in (contradiction, cut, OTHER[:14] + bytes(1 << 17), b"x" * (1 << 17)):
        for _ in prepare(records, [b"STORE", b"1", NUMBER, KEY, item, item]):
            pass
    assert records.get(KEY) == ONE
    with pytest.raises(versions.DamagedRecord, match="equal clocks"):
        records.merge_all([KEY, contradiction])
