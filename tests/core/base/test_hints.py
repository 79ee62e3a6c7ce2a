"""The list of hints, checked against a dictionary: kept, confirmed, expired, and loaded again after a restart."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from server.core.base.hints import HINT_OVERHEAD_BYTES, Hints
from server.core.base.statistics import Statistics
from server.core.records.records import HINTS, Records, storage_key_of
from server.storage.memory import MemoryEngine

KEYS = [storage_key_of(b"k%d" % number) for number in range(6)]
OWNERS = ["n1", "n2-ffffffff"]


def _hints(engine: MemoryEngine, bytes_max: int = 1 << 20) -> tuple[Hints, Records]:
    records = Records(engine, 1 << 20, ValueError)
    return Hints(records, Statistics(), bytes_max), records


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["keep", "confirm", "give up", "restart"]), st.sampled_from(OWNERS), st.sampled_from(KEYS)
        )
    )
)
def test_hints_are_a_durable_dictionary_in_order(steps: list[tuple[str, str, bytes]]) -> None:
    engine = MemoryEngine()
    hints, records = _hints(engine)
    model: dict[tuple[str, bytes], int] = {}
    for now_ms, (step, owner, key) in enumerate(steps):
        if step == "keep":
            hints.keep(owner, [key], 1000 + now_ms, now_ms, False)
            model.setdefault((owner, key), 1000 + now_ms)
        elif step == "restart":
            hints, records = _hints(engine)
        elif (owner, key) in model:
            (hints.confirm if step == "confirm" else hints.expire)(owner, key, now_ms)
            del model[owner, key]
        engine.commit(records.drain_batch())
        for name in OWNERS:
            expected = [key for (who, key) in model if who == name]
            assert hints.keys(name) == expected
            assert hints.count(name) == len(expected)
        assert hints.total == len(model)
        assert all(hints.holds(key) == any(key == held for _, held in model) for key in KEYS)
        assert [row[0] for row in hints.summary(10**6)] == hints.owners()
        assert sum(row[2] for row in hints.summary(10**6)) == sum(len(k) + HINT_OVERHEAD_BYTES for _, k in model)
    assert len(engine.scan(HINTS, None, 100)) == len(model)


def test_at_the_bound_an_owner_falls_behind_and_a_stand_in_was_asked_before() -> None:
    hints, _ = _hints(MemoryEngine(), bytes_max=HINT_OVERHEAD_BYTES)
    hints.keep("n1", KEYS[:2], 1, 1, False)
    assert hints.full
    assert hints.keys("n1") == KEYS[:1]
    assert hints.dropped_hints == {"n1": 1}
    hints.keep("n1", KEYS[:2], 2, 2, False)
    assert hints.dropped_hints == {"n1": 2}, "the hint that is kept covers the newer write; the other is missed again"
    hints.keep("n1", KEYS[2:3], 3, 3, True)
    assert hints.keys("n1") == [KEYS[0], KEYS[2]], "what a stand-in has acknowledged is never left out"


def test_touches_are_remembered_as_long_as_they_may_be_asked_for() -> None:
    hints, _ = _hints(MemoryEngine())
    assert not hints.changed_since(KEYS[0], 0)
    hints.keep("n1", KEYS[:1], 1, 100, False)
    hints.confirm("n1", KEYS[0], 200)
    assert hints.changed_since(KEYS[0], 200)
    assert not hints.changed_since(KEYS[0], 201)
    assert not hints.changed_since(KEYS[1], 0)
    hints.forget_changes(300)
    assert not hints.changed_since(KEYS[0], 300)
    assert hints.changed_since(KEYS[1], 299), "what has been forgotten counts as touched"


def test_the_oldest_are_given_up_first() -> None:
    hints, _ = _hints(MemoryEngine())
    for number, key in enumerate(KEYS):
        hints.keep("n1", [key], 1000 + number, number, False)
    assert hints.oldest_ms("n1") == 1000
    assert hints.older_than("n1", 1003, 10) == KEYS[:3]
    assert hints.older_than("n1", 1003, 2) == KEYS[:2]
