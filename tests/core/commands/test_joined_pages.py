"""Pages of live keys are those of the joined records, whatever each owner holds, leaves out, and how far it gets in a page.

Three owners whose records went apart in any way; those who answer are read by pages of every size, and the keys compared
with the join of all that these owners hold.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from functools import reduce
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.core.base.config import Config
from server.core.commands import pages
from server.core.commands.pages import END, KeyPage, count_keys, page_after, read_page
from server.core.messages import record_questions
from server.core.messages.asking import Question
from server.core.messages.questions import QUESTIONS
from server.core.records import versions
from server.core.records.live_slots import is_uncounted, next_live_slot
from server.core.records.records import PREFIX_BYTES, SLOT_PREFIX
from server.core.requests import page_answers
from server.core.services.services import Services
from tests.core.commands.talking import WALL_MS, finish_turn, make_node, member, reach

# In four slots, two of them neighbours; several keys have the same place.
KEYS = [
    SLOT_PREFIX[slot] + bytes((0, 0, 0, place)) + b"%d" % number
    for slot in (0, 5, 6, 16383)
    for place, number in ((1, 1), (2, 2), (2, 3), (2, 4), (9, 5))
]
OWNERS = [member(number).id for number in (1, 2, 3)]
CONFIG = Config(engine="memory", scan_page_keys=3, tree_leaf_bits=14)
STEP = st.tuples(
    st.sampled_from(["set", "set", "delete", "expired", "expiring", "beside", "sync", "sync", "turn"]),
    st.integers(0, 2),
    st.integers(0, len(KEYS) - 1),
)


class Owners:
    """Three nodes; `answering` answer, of which those `before` are of the version before."""

    def __init__(self, steps: list[tuple[str, int, int]], answering: list[int], before: list[int]) -> None:
        self.nodes = [make_node(3, CONFIG) for _ in OWNERS]
        for node, owner in zip(self.nodes, OWNERS, strict=True):
            node.state.id = owner
        self.answering = answering
        self.before = before
        self.questions = 0
        for time, (word, owner, place) in enumerate(steps):
            self._do(time + 1, word, owner, KEYS[place])

    def _do(self, time: int, word: str, owner: int, key: bytes) -> None:
        records = self.nodes[owner].state.records
        old, actor = records.get(key), b"actor-%d-" % owner
        if word == "turn":
            finish_turn(self.nodes[owner])
        elif word == "sync":
            for other in self.nodes:
                if old is not None:
                    other.state.records.merge_all([key, old])
        elif word == "beside":
            records.put(key, versions.write(old, actor, time, b"v", 0, time % 2), old)
        else:
            expires_at_ms = {"expired": WALL_MS - 1, "expiring": WALL_MS + 1000}.get(word, 0)
            kind = versions.TOMBSTONE if word == "delete" else versions.VALUE
            records.put(key, versions.supersede(old, actor, time, b"v", expires_at_ms, kind), old)

    def ask(self, owners: list[str], question: Question[Any, Any], content: Any) -> dict[str, Any]:
        """What they answer."""
        self.questions += 1
        kind, words = question.name, question.write(content)
        return {
            OWNERS[number]: self._answer(number, kind, words) for number in self.answering if OWNERS[number] in owners
        }

    def _answer(self, number: int, kind: bytes, words: list[bytes]) -> Any:
        if number in self.before:
            words = words[:3] if kind == b"PAGE" else words
            return None if kind in (b"HEADS", b"KEYCOUNTS") else self._own(number, kind, words)
        return self._own(number, kind, words)

    def _own(self, number: int, kind: bytes, words: list[bytes]) -> Any:
        return self.nodes[number].services.questions._own_answer(QUESTIONS[kind], words)

    def run(self, steps: Callable[[Services], Generator[Any, Any, Any]], at: int | None = None) -> Any:
        """What `steps` make of the answers, at one of the owners, or at a coordinator that owns nothing."""
        coordinator = self.nodes[at] if at is not None else make_node(3, CONFIG)
        if at is None:
            coordinator.state.id = "nobody"
        coordinator.services.questions.ask = lambda *question, **_: question  # type: ignore[assignment, method-assign, return-value]
        running = steps(coordinator.services)
        answers = None
        try:
            while True:
                question: Any = running.send(answers)
                answers = self.ask(*question) if isinstance(question, tuple) else None  # else a pause
        except StopIteration as end:
            return end.value

    def naive(self) -> list[bytes]:
        """The live keys of the join, in order."""
        found = []
        for key in KEYS:
            held = [self.nodes[number].state.records.get(key) for number in self.answering]
            joined = reduce(versions.merge, held, None)
            if joined is not None and versions.value_of(joined, WALL_MS) is not None:
                found.append(key[PREFIX_BYTES:])
        return found


def all_pages(limit: int) -> Callable[[Services], Generator[Any, Any, list[bytes]]]:
    """All keys, by pages of so many; each page goes on."""

    def steps(services: Services) -> Generator[Any, Any, list[bytes]]:
        page = KeyPage([], 0)
        found: list[bytes] = []
        while page.next_place < END:
            before = page.next_place
            page = (
                (yield from read_page(services, before, limit, 1)) if limit else (yield from page_after(services, page))
            )
            assert page.next_place > before
            found += page.keys
        return found

    return steps


@pytest.fixture(autouse=True)
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each answer ends soon, and skips soon."""
    monkeypatch.setattr(page_answers, "EXAMINED_MAX", 4)
    monkeypatch.setattr(page_answers, "_CHUNK_KEYS", 2)
    monkeypatch.setattr(page_answers, "_SKIPPED_KEYS", 1)


ANSWERING = st.sampled_from([[0, 1], [1, 2], [0, 2], [0, 1, 2]])
BEFORE = st.sampled_from([[], [], [1], [0, 2]])


@given(st.lists(STEP, max_size=40), ANSWERING, BEFORE, st.integers(0, 6), st.booleans())
def test_the_pages_are_those_of_the_join(
    steps: list[tuple[str, int, int]], answering: list[int], before: list[int], limit: int, at_owner: bool
) -> None:
    owners = Owners(steps, answering, before)
    assert owners.run(all_pages(limit), answering[0] if at_owner else None) == owners.naive()


@given(st.lists(STEP, max_size=40), st.sampled_from([[0, 1], [1, 2]]), BEFORE)
def test_the_count_is_that_of_the_join(
    steps: list[tuple[str, int, int]], answering: list[int], before: list[int]
) -> None:
    owners = Owners(steps, answering, before)
    assert owners.run(count_keys) == len(owners.naive())


def test_owners_that_agree_are_counted_and_not_read() -> None:
    steps = [(word, 0, place) for word in ("set", "sync") for place in range(len(KEYS))]
    steps += [(word, 1, place) for word in ("delete", "sync") for place in range(5)]
    owners = Owners(steps, [0, 1, 2], [])
    assert owners.run(count_keys) == len(KEYS) - 5
    assert owners.questions == 1


@pytest.mark.skipif(not page_answers.__file__.endswith(".py"), reason="compiled code calls no planted function")
def test_slots_of_dead_keys_are_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = [(word, 0, place) for word in ("set", "delete", "sync") for place in range(len(KEYS) - 5)]
    owners = Owners([*steps, ("set", 1, len(KEYS) - 1), ("sync", 1, len(KEYS) - 1)], [0, 1, 2], [])
    examined: list[bytes] = []
    check = page_answers._check
    monkeypatch.setattr(
        page_answers, "_check", lambda state, key, record: examined.append(key) or check(state, key, record)
    )
    assert owners.run(all_pages(1)) == owners.naive() == [b"5"]
    assert examined == [KEYS[-1]] * 3
    assert owners.questions <= 2


def test_slots_that_could_not_be_read_are_not_taken_for_dead() -> None:
    records = make_node(3).state.records
    records.uncounted = {7: None, 3: None}
    assert [next_live_slot(records, slot, 16384) for slot in (0, 3, 4, 7, 8)] == [3, 3, 7, 7, 16384]
    assert next_live_slot(records, 0, 3) == 3
    assert is_uncounted(records, 0, 4) and not is_uncounted(records, 4, 7)


def test_no_quorum_is_an_error_at_each_question() -> None:
    owners = Owners([("set", 0, 0)], [0], [])
    with pytest.raises(pages.CommandError, match="NOQUORUM read"):
        owners.run(all_pages(3))


@pytest.mark.interpreted
def test_an_answer_ends_once_it_has_read_a_page_of_values(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the new and of the old form, and of HEADS; the old one has two places at least, or its asker could not go on."""
    monkeypatch.setattr(page_answers, "EXAMINED_MAX", 1000)
    monkeypatch.setattr(page_answers, "PAGE_BYTES", 500)
    owners = Owners([("set", 0, place) for place in range(len(KEYS))], [0, 1], [])
    state = owners.nodes[0].state
    for key in KEYS:
        record = versions.supersede(state.records.get(key), b"actor-0-", 100, b"v" * 300)
        state.records.put(key, record, state.records.get(key))
    whole = record_questions.PageQuestion(SLOT_PREFIX[0] + bytes(4), SLOT_PREFIX[16384], 1000, False)
    new, old = page_answers.page(state, whole._replace(live=True)), page_answers.page(state, whole)
    assert new is not None and new.next_prefix == KEYS[4][:PREFIX_BYTES] and new.pairs[::2] == KEYS[:4]
    assert old is not None and old.has_more and not old.next_prefix and old.pairs[::2] == KEYS[:2]
    found = page_answers.heads(state, KEYS)
    assert found is not None and len(found) == 2
    assert owners.run(all_pages(1000)) == owners.naive() == [key[PREFIX_BYTES:] for key in KEYS]


def test_an_owner_asks_for_hashes_only_while_all_agree() -> None:
    steps = [(word, 0, place) for word in ("set", "sync") for place in range(len(KEYS))]
    owners = Owners(steps, [0, 1, 2], [])
    kinds: list[bytes] = []
    ask = owners.ask
    owners.ask = lambda asked, question, content: kinds.append(question.name) or ask(asked, question, content)  # type: ignore[method-assign, func-returns-value, assignment]
    assert owners.run(all_pages(100), 0) == owners.naive()
    assert set(kinds) == {b"HASHES"}
    state = owners.nodes[1].state
    old = state.records.get(KEYS[7])
    state.records.put(KEYS[7], versions.supersede(old, b"actor-1-", 100, b"", 0, versions.TOMBSTONE), old)
    assert owners.run(all_pages(100), 0) == owners.naive()
    assert len(owners.naive()) == len(KEYS) - 1 and {b"PAGE", b"HEADS"} <= set(kinds)


def test_a_node_that_is_down_is_not_asked_if_the_others_are_enough() -> None:
    """It may hang: then its links are open, and each page would wait for it until the deadline."""
    steps = [(word, 0, place) for word in ("set", "sync") for place in range(len(KEYS))]
    owners = Owners(steps, [0, 1, 2], [])
    asked: list[set[str]] = []
    ask = owners.ask
    owners.ask = lambda nodes, question, content: asked.append({*nodes}) or ask(nodes, question, content)  # type: ignore[method-assign, func-returns-value, assignment]
    reach(owners.nodes[0], 2)
    for steps_of in (all_pages(100), count_keys):
        owners.run(steps_of, 0)
    assert asked and not [nodes for nodes in asked if OWNERS[2] in nodes]
    owners.nodes[0].disconnected(OWNERS[1], 0)
    asked.clear()
    owners.run(all_pages(100), 0)
    assert {OWNERS[1], OWNERS[2]} in asked, "too few are left, so all may be needed"
