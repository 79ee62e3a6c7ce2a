"""Every kind of message and question is written as it is read, and only messages/ knows the names of kinds.

The messages are those of test_damage.py: made from the declarations. So a kind that is added is tested here, once it has a
line in `ENCODED`.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from protocol.frames import FrameReader, encode_message, seal
from server.core.messages import announcements as said
from server.core.messages import kinds, libraries, numberings, queues, users
from server.core.messages import publications as said_to_clients
from server.core.messages import questions as asked
from server.core.messages.asking import read_answer, write_answer
from server.core.messages.comparison import OTHER
from server.core.messages.exchange_questions import HashesAnswer, ListAnswer, MergeAnswer
from server.core.messages.reader import HEADER_ITEMS, Reader
from server.core.messages.record_questions import WAIT, PageAnswer
from server.core.messages.traces import encode_traced
from server.core.ring.change import WEIGHT, Change
from tests.core.messages.samples import KEYS, RECORD, SIBLINGS
from tests.core.messages.test_damage import answer_of, message_of, question_of

SERVER = Path(__file__).parents[3] / "server"
READING, NUMBER = 77 << 16, 5
Encode = Callable[[Any], bytes]  # what a declaration has read -> the encoded message


def _packed(indexes: bytes) -> list[int]:
    return [int.from_bytes(indexes[place : place + 4], "big") for place in range(0, len(indexes), 4)]


ENCODED: dict[bytes, Encode] = {
    b"READ": lambda group: kinds.encode_read(READING, NUMBER, group.digest, group.keys),
    b"COMPARE": lambda group: kinds.encode_compare(READING, NUMBER, group.checksums, group.keys),
    b"DIFFER": lambda found: kinds.encode_differ(READING, NUMBER, [found.states, *found.records]),
    b"SAME": lambda _: kinds.encode_same(READING, NUMBER),
    b"RECORDS": lambda records: kinds.encode_records(READING, NUMBER, records),
    b"STORE": lambda pairs: kinds.encode_store(READING, NUMBER, pairs),
    b"PATCH": lambda pairs: kinds.encode_patch(READING, NUMBER, pairs),
    b"UNFIT": lambda _: kinds.encode_unfit(READING, NUMBER),
    b"KEEP": lambda pairs: kinds.encode_keep(READING, NUMBER, pairs),
    b"HINT": lambda hint: kinds.encode_hint(READING, NUMBER, hint.owner, hint.pairs),
    b"STORED": lambda _: kinds.encode_stored(READING, NUMBER),
    b"KEPT": lambda numbers: kinds.encode_kept(READING, numbers),
    b"REFUSED": lambda _: kinds.encode_refused(READING, NUMBER),
    b"RELAY": lambda relay: kinds.encode_relay(READING, NUMBER, relay.sent_ms, relay.options, relay.commands),
    b"RELAYED": lambda one: kinds.encode_relayed(READING, NUMBER, _packed(one.indexes), one.replies),
    b"COVERED": lambda covered: kinds.encode_covered(READING, NUMBER, covered.group, _packed(covered.indexes)),
    b"ASK": lambda ask: asked.encode_ask(
        READING, NUMBER, asked.QUESTIONS[ask.kind], asked.QUESTIONS[ask.kind].write(ask.content)
    ),
    b"ANSWER": lambda items: asked.encode_answer(READING, NUMBER, items),
    b"CLOCK": lambda now_ms: said.encode_clock(READING, now_ms),
    b"TIME": lambda now_ms: said.encode_time(READING, now_ms),
    b"TIMED": lambda timed: said.encode_timed(READING, NUMBER, timed.wall_ms, timed.time_ms),
    b"SILENCE": lambda limit_ms: said.encode_silence(READING, NUMBER, limit_ms),
    b"HEEDED": lambda _: said.encode_heeded(READING, NUMBER),
    b"ISALIVE": lambda node: said.encode_isalive(READING, NUMBER, node),
    b"ALIVE": lambda node: said.encode_alive(READING, NUMBER, node),
    b"CLOCKOFF": lambda ahead_ms: said.encode_clockoff(READING, ahead_ms),
    b"GOSSIP": lambda gossip: said.encode_gossip(READING, gossip.wants_answer, gossip.epoch, gossip.table),
    b"LAYOUT": lambda document: said.encode_layout(READING, document),
    b"VIEW": lambda view: said.encode_view(READING, view),
    b"MARK": lambda incarnation: said.encode_mark(READING, NUMBER, incarnation),
    b"STAGED": lambda staged: said.encode_staged(READING, said.staged_document(staged)),
    b"COPY": lambda address: said.encode_duplicate(READING, address),
    b"FULL": lambda room: said.encode_full(READING, room),
    b"WATCHING": lambda wants: said_to_clients.encode_watching(READING, wants),
    b"CHANGED": lambda keys: said_to_clients.encode_changed(READING, keys),
    b"ALTERED": lambda changes: said_to_clients.encode_altered(READING, changes),
    b"MADE": lambda change: said_to_clients.encode_made(READING, NUMBER, change),
    b"FLUSHED": lambda _: said_to_clients.encode_flushed(READING),
    b"NOTIFY": lambda setting: said_to_clients.encode_notify(READING, setting),
    b"PUBLISHED": lambda publications: said_to_clients.encode_published(READING, publications),
    b"TRACED": lambda traced: encode_traced(READING, traced.trace, traced.span, encode_message(traced.message)),
    b"USERS": lambda document: users.encode_users(READING, document.encode()),
    b"LIBRARIES": lambda document: libraries.encode_libraries(READING, document.encode()),
    b"LIBVIEW": lambda digest: libraries.encode_libraries_view(READING, digest),
    b"NUMBERS": lambda document: numberings.encode_numbers(READING, document.encode()),
    b"NUMVIEW": lambda digest: numberings.encode_numbers_view(READING, digest),
    b"USERSVIEW": lambda digest: users.encode_users_view(READING, digest),
    b"ORDERLY": lambda _: said.encode_orderly(READING),
    b"WAKE": lambda wake: queues.encode_wake(READING, list(zip(wake.numbers, wake.keys, strict=True))),
    b"FORGET": lambda numbers: queues.encode_forget(READING, numbers),
    b"ESCROW": lambda words: queues.encode_escrow(READING, NUMBER, words),
    b"CLEARED": lambda numbers: queues.encode_cleared(READING, numbers),
    b"OPENED": lambda opened: queues.encode_opened(READING, opened),
    b"SETTLED": lambda settled: queues.encode_settled(READING, settled),
    b"POISON": lambda poison: said.encode_poison(READING, poison),
}


def parsed(message: bytes) -> list[Any]:
    """Returns the items of an encoded message as the receiver gets them."""
    reader = FrameReader(1 << 20)
    reader.feed(seal([message]))
    items = reader.next()
    assert items is not None and reader.next() is None
    return items


def without_spaces(items: list[Any]) -> list[Any]:
    """Returns the items, JSON documents without the spaces that mean nothing."""
    return [
        json.dumps(json.loads(item)).encode() if type(item) is bytes and item[:1] in (b"{", b"[") else item
        for item in items
    ]


def test_every_kind_has_a_line_here() -> None:
    assert list(ENCODED) and set(ENCODED) == set(asked.KINDS)


@pytest.mark.parametrize("name", asked.KINDS, ids=bytes.decode)
def test_a_message_is_written_as_it_is_read(name: bytes) -> None:
    number = (
        1
        if name in (b"CLOCK", b"TIME", b"CLOCKOFF", b"GOSSIP", b"FULL", b"WATCHING", b"CHANGED", b"ALTERED")
        else NUMBER
    )
    items = message_of(name)
    message = [name, b"%d" % READING, b"%d" % number, *items]
    content = asked.KINDS[name].read(Reader(message, number, HEADER_ITEMS))
    written = parsed(ENCODED[name](content))
    assert written[:2] == message[:2]
    assert without_spaces(written[HEADER_ITEMS:]) == without_spaces(items)
    if written[2] != b"0":  # some announcements have no number
        assert written[2] == b"%d" % number


@pytest.mark.parametrize("name", asked.QUESTIONS, ids=bytes.decode)
def test_a_question_is_written_as_it_is_read(name: bytes) -> None:
    question, items = asked.QUESTIONS[name], question_of(name)
    content = question.read(Reader(items, 0, 0))
    assert without_spaces(question.write(content)) == without_spaces(items)
    assert parsed(asked.encode_ask(READING, NUMBER, question, items)) == [
        b"ASK", b"%d" % READING, b"%d" % NUMBER, name, *items
    ]  # fmt: skip


@pytest.mark.parametrize("name", asked.QUESTIONS, ids=bytes.decode)
def test_an_answer_is_written_as_it_is_read(name: bytes) -> None:
    question, items = asked.QUESTIONS[name], answer_of(name)
    answer = read_answer(question, Reader(items, 0, 0), question_of(name))
    assert answer is not None and without_spaces(write_answer(question, answer)) == without_spaces(items)


ANSWERS: list[tuple[bytes, Any, list[bytes], list[bytes]]] = [
    (b"PAGE", PageAnswer([KEYS[0], RECORD], True), [b"a", b"b", b"9"], [b"1", KEYS[0], RECORD]),
    (b"PAGE", PageAnswer([]), [b"a", b"b", b"9"], [b"0"]),
    (b"PAGE", PageAnswer([], next_prefix=KEYS[0][:6]), [b"a", b"b", b"9", b"live"], [b"live", KEYS[0][:6]]),
    (
        b"LIST",
        ListAnswer(True, False, KEYS[0], {KEYS[0]: RECORD[:8]}),
        [b"1", b"c"],
        [b"1", KEYS[0], RECORD[:8] + KEYS[0]],
    ),
    (b"LIST", ListAnswer(False, True, b"", {KEYS[0]: b"?"}), [b"1", b"r"], [b"0", b"", KEYS[0], b"?"]),
    (b"LIST", ListAnswer(False, True, b"", {}), [b"1", b"r"], [b"0", b""]),
    (b"LIST", ListAnswer(False, False, b"", {}, KEYS[0]), [b"1", b"c"], [b"0", b"?", KEYS[0]]),
    (b"LIST", ListAnswer(False, False, b"", {}, b""), [b"1", b"c"], [b"0", b"?"]),
    (b"HASHES", HashesAnswer(True, []), [b"1", b"20", b"1", b""], [b"1", b""]),
    (b"MERGE", MergeAnswer(True, -1, 0), [b"1", KEYS[0], RECORD], [b"1"]),
    (b"MERGE", MergeAnswer(False, 3, 1), [b"1", KEYS[0], RECORD], [b"0", b"3", b"1"]),
    (b"COPIES", [RECORD, None, b"?"], [KEYS[0]] * 3, [b"=" + RECORD, b"-", b"!"]),
    (b"SUBSCRIPTIONS", [b"a", b"b"], [b"0", b"0"], [b"a", b"b"]),
    (
        b"SYNCED",
        asked.Synced(1_700_000_000_000, 5, 4, [f"{7:040x}"]),
        [b"100"],
        [b"1700000000000", b"5", b"4", b"%040x" % 7],
    ),
    (b"LINE", WAIT, [b"ballot", b"1"], [b"wait"]),
    (b"LINE", 0, [b"ballot", b"1"], [b"0"]),
    (b"FENCE", [], [b"ballot", b"1"], [b"done"]),
    (b"ADOPTED", False, [], [b"0"]),
]


@pytest.mark.parametrize(("name", "answer", "asking", "items"), ANSWERS)
def test_answers_in_each_of_their_forms(name: bytes, answer: Any, asking: list[bytes], items: list[bytes]) -> None:
    question = asked.QUESTIONS[name]
    assert write_answer(question, answer) == items
    assert read_answer(question, Reader(items, 0, 0), asking) == answer


def test_no_answer_has_no_items() -> None:
    for question in asked.QUESTIONS.values():
        assert write_answer(question, None) == [] and read_answer(question, Reader([], 0, 0), []) is None


def test_what_may_be_missing_is_missing() -> None:
    assert asked.ADOPTED.write(None) == []
    assert asked.TASKS.write(asked.TaskQuery("", False)) == []
    assert asked.TASKS.write(asked.TaskQuery("repair-1", False)) == [b"repair-1"]
    assert asked.TASKS.write(asked.TaskQuery("repair-1", True)) == [b"repair-1", b"ABORT"]
    assert asked.PAUSE.write(asked.Pause("", True)) == [b"PAUSE"]
    assert asked.PAUSE.write(asked.Pause("transfer-2-n4", False)) == [b"RESUME", b"transfer-2-n4"]
    assert asked.QUESTIONS[b"HINTS"].write(False) == []
    assert parsed(kinds.encode_records(READING, NUMBER, [None, RECORD]))[HEADER_ITEMS:] == [b"", RECORD]
    assert parsed(said.encode_timed(READING, NUMBER, -5, None))[HEADER_ITEMS:] == [b"0", b""]


def test_the_options_of_a_relay() -> None:
    assert kinds.relay_options(True, 2, 0, False) == [b"1", b"2", b"0"]
    assert kinds.relay_options(False, 0, 3, True) == [b"0", b"0", b"3", b"1"]


def test_many_items_keep_their_order() -> None:
    pairs = [item for number in range(200) for item in (KEYS[0] + b"%d" % number, RECORD if number % 2 else SIBLINGS)]
    assert parsed(kinds.encode_store(READING, NUMBER, pairs))[HEADER_ITEMS:] == pairs
    assert parsed(kinds.encode_kept(READING, [1, 2**40, 3]))[HEADER_ITEMS:] == [
        b"".join(number.to_bytes(8, "big") for number in (1, 2**40, 3))
    ]
    indexes = list(range(300))
    assert _packed(parsed(kinds.encode_covered(READING, NUMBER, 9, indexes))[HEADER_ITEMS + 1]) == indexes
    states = bytes([OTHER]) * 2
    assert parsed(kinds.encode_differ(READING, NUMBER, [states, RECORD, SIBLINGS]))[HEADER_ITEMS] == states


def test_staged_changes_survive_the_document() -> None:
    staged = said.Staged(3, [Change("c1", WEIGHT, "n2", weight=2)], ["c0"])
    assert said.staged_in(said.staged_document(staged)) == staged


def _calls(tree: ast.AST) -> list[ast.Call]:
    return [node for node in ast.walk(tree) if isinstance(node, ast.Call)]


@pytest.mark.parametrize(
    "path",
    [path for path in sorted(SERVER.rglob("*.py")) if path.parent.name != "messages" and "compiled" not in path.parts],
    ids=lambda path: str(path.relative_to(SERVER)),
)
def test_only_the_declarations_name_kinds_when_something_is_sent(path: Path) -> None:
    """Who encodes a message, or hands a kind's name over with a question, would know the order of its fields, too."""
    names = {*asked.KINDS, *asked.QUESTIONS}
    for call in _calls(ast.parse(path.read_text())):
        name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
        assert name != "encode_message", f"{path.name}:{call.lineno} encodes a message by itself"
        if name in ("ask", "_ask", "send", "send_behind", "message"):
            words = [node.value for arg in call.args for node in ast.walk(arg) if isinstance(node, ast.Constant)]
            kinds_named = [word for word in words if isinstance(word, bytes) and word in names]
            assert not kinds_named, f"{path.name}:{call.lineno} names {kinds_named}"
