"""What a fetch records of each partition: when it is complete, how many keys are missing, and which owners are equal."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from server.core.membership import partition_fetch
from server.core.membership.partition_fetch import FetchProgress, PartitionFetch
from server.core.messages.asking import Question
from server.core.messages.questions import COUNTS, Partitions
from server.core.repair.exchange import Outcome, PeerLost
from tests.core.membership.test_membership import layout_of

LAYOUT = layout_of()  # n = 3, w = 2: n2 and n3 are the other owners of every partition
OTHERS = ("n2", "n3")


class Exchanges:
    """Stands for `Exchange`: notes each one, and fails those with `lost` peers or leaves something `unsettled`."""

    def __init__(self) -> None:
        self.done: list[tuple[str, int]] = []  # peer, spans
        self.lost: list[str] = []
        self.unsettled: list[str] = []
        self.must_give: list[bool] = []

    def __call__(self, _state: Any, _questions: Any, _work: Any, peer: str, outcome: Outcome, must_give: bool) -> Any:
        self.peer, self.outcome = peer, outcome
        self.must_give.append(must_give)
        return self

    def repair(self, spans: Sequence[Any]) -> Generator[Any, Any, None]:
        """One exchange, without a step."""
        if self.peer in self.lost:
            raise PeerLost
        self.done.append((self.peer, len(spans)))
        self.outcome.unsettled += self.peer in self.unsettled
        yield from ()


class Asking:
    """Stands for `Questions`: a step is what was asked."""

    def ask(self, nodes: Sequence[str], question: Question[Any], content: Any) -> Any:
        """The question itself."""
        return list(nodes), question, content


@pytest.fixture
def exchanges(monkeypatch: pytest.MonkeyPatch) -> Exchanges:
    fake = Exchanges()
    monkeypatch.setattr(partition_fetch, "Exchange", fake)
    return fake


class Trees:
    """Stands for the hash trees: a span of each partition, and how many keys it holds."""

    def __init__(self) -> None:
        self.keys: dict[int, int] = {}

    def span_of(self, partitions: int, partition: int) -> tuple[int, int]:
        """One leaf a partition."""
        return partition, partition + 1

    def keys_in(self, span: tuple[int, int]) -> int:
        """The keys of a partition."""
        return self.keys.get(span[0], 0)


class Fixture:
    """A fetch on a node that can reach both other owners. It is its own `State`."""

    def __init__(self, partitions: Iterable[int] = (0, 1)) -> None:
        self.layout = self.present = LAYOUT
        self.id = "n9"  # no owner yet
        self.is_filling = False
        self.records = SimpleNamespace(trees=Trees())
        self.unreachable: list[str] = []
        self.down: list[str] = []
        self.ended = 0
        self.fetch = PartitionFetch(
            self,  # type: ignore[arg-type]
            Asking(),  # type: ignore[arg-type]
            None,  # type: ignore[arg-type]
            lambda layout, partition: OTHERS,
            lambda name: name in self.down,
            self._end,
        )
        self.fetch.reset(list(partitions))

    def is_usable(self, peer: str) -> bool:
        """As `State.is_usable`."""
        return peer not in self.unreachable

    def _end(self) -> None:
        self.ended += 1

    def compare(self, partitions: Sequence[int]) -> None:
        """To its end: the exchanges take no steps."""
        assert list(self.fetch.compare(self.present, partitions)) == []

    def exchange(self, peer: str, partitions: Sequence[int]) -> bool:
        """To its end."""
        try:
            next(self.fetch.exchange(self.present, peer, partitions))
        except StopIteration as stop:
            return bool(stop.value)
        raise AssertionError("an exchange without steps has ended")


@pytest.mark.parametrize(
    ("owners", "equal", "down", "complete"),
    [
        ("n2 n3 n4", "", "", False),
        ("n2 n3 n4", "n2", "n3 n4", False),  # n - w + 1 = 2 owners have to be equal
        ("n2 n3 n4", "n2 n3", "", False),  # n4 is live and may hold more
        ("n2 n3 n4", "n2 n3", "n4", True),
        ("n2 n3 n4", "n2 n3 n4", "n4", True),  # n4 went down after its comparison
        ("n2", "", "n2", False),
        ("n2", "n2", "", True),  # there are fewer than n - w + 1 owners: all of them suffice
    ],
)
def test_a_partition_is_complete_once_enough_owners_and_all_live_ones_are_equal(
    owners: str, equal: str, down: str, complete: bool
) -> None:
    it = Fixture()
    it.fetch._owners = lambda layout, partition: owners.split()
    it.fetch.equal[0] = dict.fromkeys(equal.split())
    it.down = down.split()
    assert it.fetch.is_complete(LAYOUT, 0) == complete


@pytest.mark.parametrize(
    ("node", "is_filling", "complete"),
    [
        ("n1", False, True),  # n1 is an owner itself, and has lost nothing: with n2 that makes n - w + 1 = 2
        ("n1", True, False),  # its disk was lost, and perhaps the only copy
        ("n9", False, False),
    ],
)
def test_an_owner_that_has_lost_nothing_counts_itself(node: str, is_filling: bool, complete: bool) -> None:
    it = Fixture()
    it.id, it.is_filling, it.down = node, is_filling, ["n3"]
    it.fetch.equal[0] = {"n2": None}
    assert it.fetch.is_complete(LAYOUT, 0) == complete


def test_progress_counts_missing_keys_of_partitions_that_are_not_complete() -> None:
    it = Fixture()
    assert it.fetch.progress(LAYOUT) == FetchProgress(2, 0, 0, 0)
    it.records.trees.keys[0] = 1
    it.fetch.expected_keys = {0: 5, 1: 7}
    assert it.fetch.progress(LAYOUT) == FetchProgress(2, 0, 1, 4 + 7)
    it.fetch.equal[1] = dict.fromkeys(OTHERS)
    assert it.fetch.progress(LAYOUT) == FetchProgress(2, 1, 1, 4)


def test_each_source_is_asked_once_and_a_partition_that_is_known_not_again() -> None:
    it = Fixture(range(4))
    it.fetch.expected_keys[3] = 30
    steps = it.fetch.count_keys(it.present, lambda partition: (*OTHERS, None, "n2")[partition])
    assert next(steps) == (["n2"], COUNTS, Partitions(1, [0]))  # type: ignore[comparison-overlap]
    assert steps.send({"n2": [10]}) == (["n3"], COUNTS, Partitions(1, [1]))  # type: ignore[comparison-overlap]
    with pytest.raises(StopIteration):
        steps.send({"n3": None})  # another layout rules there
    assert it.fetch.expected_keys == {0: 10, 3: 30}


def test_a_comparison_visits_owners_that_are_not_equal_yet_in_batches(exchanges: Exchanges) -> None:
    it = Fixture(range(18))
    it.fetch.equal[0] = {"n2": None}
    it.compare(list(it.fetch.equal))
    assert exchanges.done == [("n3", 16), ("n3", 2), ("n2", 16), ("n2", 1)]
    assert not any(exchanges.must_give), "a peer without room for what this node holds does not stop the fetch"
    assert all(sorted(equal) == ["n2", "n3"] for equal in it.fetch.equal.values())
    it.compare(list(it.fetch.equal))
    assert len(exchanges.done) == 4, "all are equal"


def test_an_owner_that_cannot_be_reached_is_passed_over(exchanges: Exchanges) -> None:
    it = Fixture()
    it.unreachable = ["n2"]
    it.compare([0])
    assert exchanges.done == [("n3", 1)]
    assert it.fetch.equal == {0: {"n3": None}, 1: {}}


def test_an_exchange_records_equality_only_where_it_has_settled_everything(exchanges: Exchanges) -> None:
    it = Fixture()
    exchanges.lost = ["n2"]
    assert not it.exchange("n2", [0])
    exchanges.lost, exchanges.unsettled = [], ["n2"]
    assert not it.exchange("n2", [0])
    assert it.fetch.equal == {0: {}, 1: {}}
    exchanges.unsettled = []
    assert it.exchange("n2", [0])
    assert it.fetch.equal == {0: {"n2": None}, 1: {}}
    assert it.ended == 3, "each is reported, those that failed included"


def test_an_exchange_under_another_layout_records_nothing(exchanges: Exchanges) -> None:
    it = Fixture()
    it.layout = layout_of()  # equal, but not the layout that the fetch works by
    assert not it.exchange("n2", [0])
    assert it.fetch.equal == {0: {}, 1: {}}


def test_forgetting_comparisons_keeps_what_owners_said_they_hold() -> None:
    it = Fixture()
    it.fetch.equal[0] = dict.fromkeys(OTHERS)
    it.fetch.expected_keys[0] = 10
    it.fetch.forget_comparisons([0])
    assert it.fetch.equal == {0: {}} and it.fetch.expected_keys == {0: 10}
    it.fetch.reset([1])
    assert it.fetch.equal == {1: {}} and it.fetch.expected_keys == {}


def _answers(steps: Generator[Any, Any, None], counts: dict[str, list[int]]) -> None:
    """Runs a pass, and answers its questions how many keys the owners hold."""
    answer = None
    while True:
        try:
            nodes, _, _ = steps.send(answer)
        except StopIteration:
            return
        answer = {node: counts.get(node) for node in nodes}


def test_a_pass_fetches_from_the_first_source_and_then_compares_with_the_others(exchanges: Exchanges) -> None:
    it = Fixture()
    order = {0: ("n2", "n3"), 1: ("n3", "n2")}
    counted: list[dict[int, int]] = []

    def note() -> None:
        assert not exchanges.done, "the counts are known before anything is fetched"
        counted.append(dict(it.fetch.expected_keys))

    _answers(it.fetch.fetch_all(it.present, order.__getitem__, note), {"n2": [10], "n3": [20]})
    assert counted == [{0: 10, 1: 20}]
    assert exchanges.done == [("n2", 1), ("n3", 1), ("n3", 1), ("n2", 1)]
    assert all(sorted(equal) == ["n2", "n3"] for equal in it.fetch.equal.values())


def test_a_pass_goes_on_with_the_next_source_and_leaves_out_what_no_source_gives(exchanges: Exchanges) -> None:
    it = Fixture()
    it.fetch.expected_keys = {0: 1, 1: 1}
    exchanges.lost = ["n2"]
    sources = {0: ("n2", "n3"), 1: ("n2",)}
    _answers(it.fetch.fetch_all(it.present, sources.__getitem__), {})
    assert exchanges.done == [("n3", 1)], "partition 1 has no copy yet, so it is not compared"
    assert it.fetch.equal == {0: {"n3": None}, 1: {}}


@pytest.mark.parametrize("what", ["stopped", "another layout"])
def test_a_pass_ends_when_the_fetch_is_stopped_or_another_layout_is_adopted(exchanges: Exchanges, what: str) -> None:
    it = Fixture()

    def end() -> None:
        if what == "stopped":
            it.fetch.outcome.stopped = True
        else:
            it.layout = layout_of()

    _answers(it.fetch.fetch_all(it.present, lambda partition: OTHERS, end), {"n2": [1, 1]})
    assert exchanges.done == []


def test_a_pass_without_sources_compares_all_partitions_in_batches(exchanges: Exchanges) -> None:
    it = Fixture(range(18))
    _answers(it.fetch.fetch_all(it.present), {})
    assert exchanges.done == [("n2", 16), ("n2", 2), ("n3", 16), ("n3", 2)]
