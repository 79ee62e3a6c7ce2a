"""The quorum verdict, checked against a model that computes it from the sets of replicas after every event."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.core.base.quorum import DoubleTally, Tally, Verdict

REPLICAS = [f"n{index}" for index in range(5)]


def judge(replicas: int, wanted: int, acked: set[str], failed: set[str]) -> Verdict:
    """Returns the verdict that follows from the sets alone, without earlier verdicts."""
    if len(acked) >= wanted:
        return Verdict.MET
    return Verdict.IMPOSSIBLE if replicas - len(failed - acked) < wanted else Verdict.PENDING


@given(
    st.integers(1, 5),
    st.integers(1, 6),
    st.lists(st.tuples(st.booleans(), st.integers(0, 4)), min_size=4, max_size=20),
)
@settings(max_examples=200)
def test_the_verdict_follows_the_sets_until_it_is_given_and_stays_then(
    replicas: int, wanted: int, events: list[tuple[bool, int]]
) -> None:
    tally = Tally(replicas, wanted)
    acked: set[str] = set()
    failed: set[str] = set()
    verdict = judge(replicas, wanted, acked, failed)
    assert tally.verdict is verdict
    for is_ack, index in events:
        replica = REPLICAS[index % replicas]
        if is_ack:
            answer = tally.ack(replica)
            acked.add(replica)
        else:
            answer = tally.fail(replica)
            failed.add(replica)
        if verdict is Verdict.PENDING:
            verdict = judge(replicas, wanted, acked, failed)
        assert answer is tally.verdict is verdict
        assert tally.acked == acked
        assert tally.failed == failed - acked


@pytest.mark.parametrize("repeated", [1, 2, 5])
def test_one_replica_is_one_vote_however_often_it_speaks(repeated: int) -> None:
    tally = Tally(3, 2)
    for _ in range(repeated):
        assert tally.ack("n1") is Verdict.PENDING
    assert tally.ack("n2") is Verdict.MET
    tally = Tally(3, 2)
    for _ in range(repeated):
        assert tally.fail("n1") is Verdict.PENDING
    assert tally.fail("n2") is Verdict.IMPOSSIBLE


def test_an_answer_that_had_arrived_before_the_link_broke_still_counts() -> None:
    tally = Tally(3, 3)
    tally.ack("n1")
    assert tally.fail("n1") is Verdict.PENDING  # nothing is taken back
    tally = Tally(3, 2)
    tally.fail("n1")
    assert tally.ack("n1") is Verdict.PENDING
    assert tally.fail("n2") is Verdict.PENDING  # n1 has not failed after all
    assert tally.ack("n3") is Verdict.MET


def test_a_verdict_is_final_both_ways() -> None:
    met = Tally(3, 1)
    met.ack("n1")
    for replica in ("n2", "n3"):
        assert met.fail(replica) is Verdict.MET
    impossible = Tally(3, 3)
    impossible.fail("n1")
    for replica in ("n1", "n2", "n3"):
        assert impossible.ack(replica) is Verdict.IMPOSSIBLE
    assert len(impossible.acked) == 3  # late ones are still counted, for the error that tells how many there were


def test_what_can_never_be_is_impossible_from_the_start() -> None:
    assert Tally(2, 3).verdict is Verdict.IMPOSSIBLE
    assert Tally(0, 1).verdict is Verdict.IMPOSSIBLE


def test_a_caller_that_miscounts_is_caught() -> None:
    with pytest.raises(AssertionError, match="nobody"):
        Tally(3, 0)
    tally = Tally(1, 1)
    tally.ack("n1")
    with pytest.raises(AssertionError, match="more acknowledgements"):
        tally.ack("n2")


def test_a_write_is_on_as_many_disks_as_it_wants_however_few_are_asked() -> None:
    """All readers but one were removed from the cluster, and the new owner has failed."""
    tally = DoubleTally(("a",), ("a", "b", "c"), 3, 2)
    assert tally.ack("a") is Verdict.PENDING
    assert tally.fail("b") is Verdict.PENDING
    assert tally.got == 1
    assert tally.ack("c") is Verdict.MET
    alone = DoubleTally(("a",), ("a", "b", "c"), 3, 2)
    alone.ack("a")
    alone.fail("b")
    assert alone.fail("c") is Verdict.IMPOSSIBLE
