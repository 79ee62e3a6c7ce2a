"""The queue of keys whose records may be collected."""

from __future__ import annotations

from server.core.collection.candidates import RETRY_MS, RETRY_MS_MAX, Candidates


def test_keys_come_when_they_are_due_and_once() -> None:
    candidates = Candidates(10)
    candidates.add(b"later", 200)
    candidates.add(b"soon", 100)
    candidates.add(b"soon", 150)
    assert candidates.pop_due(99, 10) == []
    assert candidates.pop_due(100, 10) == [b"soon"]
    candidates.add(b"soon", 100)
    assert candidates.pop_due(1000, 10) == [b"later"], "a key that is handed out waits for its verdict"
    candidates.remove(b"soon")
    candidates.add(b"soon", 100)
    assert candidates.pop_due(1000, 10) == [b"soon"]


def test_a_refused_key_comes_later_and_ever_later() -> None:
    candidates = Candidates(10)
    candidates.add(b"key", 0)
    now_ms, pauses = 0, []
    for _ in range(12):
        assert candidates.pop_due(now_ms, 1) == [b"key"]
        candidates.retry_later(b"key", now_ms)
        before_ms = now_ms
        while not candidates._heap[0][0] <= now_ms:
            now_ms = candidates._heap[0][0]
        pauses.append(now_ms - before_ms)
    assert pauses[:3] == [RETRY_MS, 2 * RETRY_MS, 4 * RETRY_MS]
    assert pauses[-1] == RETRY_MS_MAX


def test_what_does_not_fit_is_left_to_the_scrub() -> None:
    candidates = Candidates(2)
    for key in (b"a", b"b", b"c"):
        candidates.add(key, 0)
    assert candidates.pop_due(0, 10) == [b"a", b"b"]
    assert len(candidates) == 2
    candidates.remove(b"a")
    candidates.add(b"c", 0)
    assert candidates.pop_due(0, 10) == [b"c"]


def test_a_page_is_no_longer_than_asked() -> None:
    candidates = Candidates(100)
    for number in range(10):
        candidates.add(b"%d" % number, 0)
    assert [len(candidates.pop_due(0, 4)) for _ in range(4)] == [4, 4, 2, 0]
