"""Questions: who is waited for, what the asker gets, and what happens to answers that nobody waits for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from server.core.base.unexpected import Fatal, PlantedFault
from server.core.messages import questions as questions_of_nodes
from server.core.messages import record_questions
from server.core.messages.asking import Question
from server.core.messages.exchange_questions import FETCH, FetchAnswer, Keys
from server.core.messages.reader import Malformed
from server.core.messages.record_questions import HINTS
from server.core.work.questions import answered_by, one_answer
from tests.core.repair.machines import CONFIG, Machines, Message, keys_of, record_of

KEY = keys_of(1)[0]


def hints(count: int) -> dict[str, Any]:
    return {"hints": [], "behind": {}, "delivered": count}


class Round:
    """Three machines; each answers HINTS with its own number in `delivered`. n1 asks."""

    def __init__(self) -> None:
        self.machines = Machines(3)
        for number, machine in enumerate(self.machines.all.values(), 1):
            kind, answerer = answered_by(record_questions.HINTS, lambda replay, number=number: hints(number))
            machine.answerers[kind] = answerer
        self.one = self.machines[1]

    def ask(
        self,
        *nodes: str,
        question: Question[Any, Any] = HINTS,
        content: Any = False,
        **how: Any,
    ) -> list[Any]:
        def steps() -> Any:
            return (yield self.one.questions.ask(nodes, question, content, **how))

        return self.one.begin(steps())

    def keep_back(self, *senders: str) -> None:
        """What these say does not arrive, for now."""
        self.machines.pass_on = lambda message: message.sender not in senders

    def arrive(self) -> None:
        """What was kept back arrives."""
        self.machines.pass_on = lambda message: True
        late, self.machines.kept_back = self.machines.kept_back, []
        for message in late:
            self.machines.deliver(message)


def delivered(result: list[Any]) -> dict[str, int]:
    [answers] = result
    return {node: answer["delivered"] if answer else 0 for node, answer in answers.items()}


def test_the_asker_gets_the_answers_of_all_when_the_last_has_come() -> None:
    round_ = Round()
    result = round_.ask("n1", "n2", "n3")
    round_.keep_back("n3")
    round_.machines.settle()
    assert result == [] and len(round_.machines.asked(b"HINTS")) == 2, "this node asks itself without a message"
    round_.arrive()
    assert delivered(result) == {"n1": 1, "n2": 2, "n3": 3}


def test_a_frozen_node_is_not_waited_for_if_one_answer_is_enough() -> None:
    round_ = Round()
    result = round_.ask("n2", "n3", is_complete=one_answer)
    round_.keep_back("n3")
    round_.machines.settle()
    assert delivered(result) == {"n2": 2}
    round_.arrive()


def test_a_silent_node_is_waited_for_until_the_patience_ends() -> None:
    round_ = Round()
    round_.keep_back("n3")
    result = round_.ask("n2", "n3", patience_ms=200)
    round_.machines.pass_ms(199)
    assert result == []
    round_.machines.pass_ms(1)
    assert delivered(result) == {"n2": 2}


def test_whoever_has_spent_the_patience_once_is_not_waited_for_before_it_answers() -> None:
    round_ = Round()
    round_.keep_back("n3")
    round_.ask("n2", "n3", patience_ms=200)
    round_.machines.pass_ms(200)
    second = round_.ask("n2", "n3", patience_ms=200)
    patient = round_.ask("n2", "n3")
    round_.machines.settle()
    assert delivered(second) == {"n2": 2} and patient == [], "without a patience all are waited for"
    round_.arrive()
    assert delivered(patient) == {"n2": 2, "n3": 3}
    round_.keep_back("n3")
    third = round_.ask("n2", "n3", patience_ms=200)
    round_.machines.settle()
    assert third == [], "it has answered since"


def test_a_node_whose_link_broke_begins_anew() -> None:
    round_ = Round()
    round_.keep_back("n3")
    round_.ask("n2", "n3", patience_ms=200)
    round_.machines.pass_ms(200)
    round_.machines.cut("n3")
    round_.machines.link("n3")
    again = round_.ask("n2", "n3", patience_ms=200)
    round_.machines.settle()
    assert again == []


def test_a_suspect_node_is_not_waited_for_and_its_answer_counts_if_it_comes_first() -> None:
    round_ = Round()
    liveness = round_.one.state.liveness
    liveness.request_failed("n3", round_.machines.now_ms)
    round_.keep_back("n2")
    result = round_.ask("n2", "n3", patience_ms=200)
    liveness.request_failed("n3", round_.machines.now_ms)
    assert round_.ask("n3", patience_ms=200) == [{}]
    round_.machines.settle()
    round_.arrive()
    assert delivered(result) == {"n2": 2, "n3": 3}


def test_a_node_that_becomes_suspect_ends_the_wait() -> None:
    round_ = Round()
    round_.keep_back("n3")
    result = round_.ask("n2", "n3", patience_ms=1000)
    round_.machines.pass_ms(300)
    round_.one.state.liveness.request_failed("n3", round_.machines.now_ms)
    assert result == []
    round_.machines.pass_ms(100)
    assert delivered(result) == {"n2": 2}


def test_late_nodes_are_waited_for_while_the_others_are_not_enough() -> None:
    round_ = Round()
    round_.keep_back("n2", "n3")
    result = round_.ask("n2", "n3", patience_ms=200, can_spare=lambda answers: len(answers) == 1)
    round_.machines.pass_ms(1000)
    assert result == []
    [two] = [each for each in round_.machines.kept_back if each.sender == "n2"]
    round_.one.hear(two, round_.machines.now_ms)
    assert delivered(result) == {"n2": 2}
    nobody = round_.ask("n3", patience_ms=200, can_spare=lambda answers: False)
    round_.machines.pass_ms(CONFIG.request_timeout_ms)
    assert nobody == [{}], "the deadline counts all the same"


def test_a_question_to_this_node_alone_is_answered_at_once() -> None:
    round_ = Round()
    assert delivered(round_.ask("n1")) == {"n1": 1}
    assert not round_.machines.turn(), "without a message"


@pytest.mark.parametrize("nodes", [(), ("n2",), ("n9", "n2")])
def test_whoever_cannot_be_reached_is_not_waited_for(nodes: Sequence[str]) -> None:
    round_ = Round()
    round_.machines.cut("n2")
    assert round_.ask(*nodes) == [{}]


def test_the_deadline_ends_it_with_the_answers_that_there_are() -> None:
    round_ = Round()
    round_.keep_back("n3")
    result = round_.ask("n2", "n3")
    timeout_ms = CONFIG.request_timeout_ms
    round_.machines.pass_ms(timeout_ms - 1)
    assert result == []
    round_.machines.pass_ms(1)
    assert delivered(result) == {"n2": 2}
    round_.arrive()
    assert len(result) == 1, "a late answer is nobody's"


def test_a_peer_that_is_lost_is_waited_for_no_more() -> None:
    round_ = Round()
    round_.keep_back("n2", "n3")
    result = round_.ask("n2", "n3")
    round_.machines.settle()
    round_.machines.cut("n2")
    assert result == []
    round_.arrive()
    assert delivered(result) == {"n3": 3}


def test_an_answer_counts_once_and_only_of_those_who_were_asked() -> None:
    round_ = Round()
    result = round_.ask("n2", "n3")
    round_.keep_back("n3")
    round_.machines.settle()
    [answer] = [message for message in round_.machines.said if message.sender == "n2"]
    others = round_.ask("n3")
    number = answer.words[2]
    for again in (
        answer,
        answer._replace(sender="n1"),
        answer._replace(words=[*answer.words[:2], b"12", *answer.items]),
    ):
        round_.one.hear(again._replace(receiver="n1"), round_.machines.now_ms)
    assert result == [] and others == [] and number != b"12"
    round_.arrive()
    assert delivered(result) == {"n2": 2, "n3": 3}


def test_answers_find_their_questions_in_whatever_order_they_come() -> None:
    round_ = Round()
    round_.keep_back("n2", "n3")
    results = [round_.ask("n2"), round_.ask("n2", question=FETCH, content=Keys(1, [b"\0" * 6 + KEY])), round_.ask("n3")]
    round_.machines.settle()
    round_.machines.kept_back.reverse()
    round_.arrive()
    assert [delivered(results[0]), delivered(results[2])] == [{"n2": 2}, {"n3": 3}]
    assert results[1] == [{"n2": FetchAnswer(False, [b""])}]


def test_a_kind_that_the_other_does_not_know_is_answered_with_nothing() -> None:
    round_ = Round()
    del round_.machines[2].answerers[b"HINTS"]
    result = round_.ask("n2")
    round_.machines.settle()
    assert result == [{"n2": None}]


def test_an_answer_that_cannot_be_read_changes_nothing() -> None:
    """The connection that it came over ends (incoming.py), and with it the wait."""
    round_ = Round()
    result = round_.ask("n2", question=FETCH, content=Keys(1, [b"\0" * 6 + KEY]))
    round_.keep_back("n2")
    round_.machines.settle()
    [number] = [message.words[2] for message in round_.machines.said if message.question]
    records = [[b"0", b"no record"], [b"0", record_of(b"v"), record_of(b"v")], [b"2", b""], [b"0"]]
    for items in records:
        with pytest.raises(Malformed):
            round_.one.hear(Message("n2", "n1", [b"ANSWER", b"0", number, *items]), round_.machines.now_ms)
    assert result == []
    round_.machines.cut("n2")
    assert result == [{}]


def test_this_nodes_own_answer_is_read_like_one_of_others() -> None:
    round_ = Round()
    round_.one.answerers[b"HINTS"] = lambda replay: {}
    with pytest.raises(Fatal, match="own HINTS"):
        round_.ask("n1")


def test_every_node_gets_the_content_of_a_question() -> None:
    round_ = Round()
    seen = []
    for machine in round_.machines.all.values():
        kind, answerer = answered_by(questions_of_nodes.COUNTS, lambda counts: (seen.append(tuple(counts)), [4, 5])[1])
        machine.answerers[kind] = answerer
    result = round_.ask(
        "n1", "n2", question=questions_of_nodes.COUNTS, content=questions_of_nodes.Partitions(1, [3, 9])
    )
    round_.machines.settle()
    assert seen == [(1, [3, 9])] * 2 and result == [{"n1": [4, 5], "n2": [4, 5]}]


@pytest.mark.parametrize(("question", "passes_others"), [(questions_of_nodes.GOING, False), (HINTS, True)])
def test_one_that_stands_for_all_before_it_passes_nothing(question: Question[Any, Any], passes_others: bool) -> None:
    """Nor does its answer."""
    round_ = Round()
    two = round_.machines[2]
    two.answerers[b"GOING"] = lambda peer: True
    result = round_.ask("n2", question=question, content=False if question is HINTS else "n1")
    assert (list(round_.one.state.messages), list(round_.one.state.trailing)) == (
        (["n2"], []) if passes_others else ([], ["n2"])
    )
    for message in round_.one.end_turn():
        two.hear(message, round_.machines.now_ms)
    assert bool(two.state.messages) is passes_others and bool(two.state.trailing) is not passes_others
    round_.machines.settle()
    assert list(result[0]) == ["n2"]


def test_a_fault_is_planted_by_the_kind_of_question() -> None:
    round_ = Round()
    two = round_.machines[2]
    two.state.unexpected.plant("question HINTS")
    round_.ask("n2")
    with pytest.raises(PlantedFault):
        round_.machines.settle()
    assert b"HINTS" in two.questions.kinds
