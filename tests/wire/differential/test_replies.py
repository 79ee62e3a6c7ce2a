"""The judgement and the shrinking of the differential test, without servers."""

from __future__ import annotations

import pytest

from tests.wire.differential.replies import elements, parsed, same_choice, same_in_any_order, same_time
from tests.wire.differential.running import Sequence_
from tests.wire.differential.shrinking import script_of, shrunk

A_B, B_A, A_C = b"*2\r\n$1\r\na\r\n$1\r\nb\r\n", b"*2\r\n$1\r\nb\r\n$1\r\na\r\n", b"*2\r\n$1\r\na\r\n$1\r\nc\r\n"
HASH = b"*4\r\n$1\r\na\r\n$1\r\n1\r\n$1\r\nb\r\n$1\r\n2\r\n"
TURNED = b"*4\r\n$1\r\nb\r\n$1\r\n2\r\n$1\r\na\r\n$1\r\n1\r\n"
MIXED = b"*4\r\n$1\r\na\r\n$1\r\n2\r\n$1\r\nb\r\n$1\r\n1\r\n"


def test_order_does_not_count_but_elements_do() -> None:
    assert same_in_any_order(parsed(A_B), parsed(B_A))
    assert not same_in_any_order(parsed(A_B), parsed(A_C))
    assert not same_in_any_order(parsed(A_B), parsed(b"~" + B_A[1:]))


def test_a_field_keeps_its_value() -> None:
    assert same_in_any_order(parsed(HASH), parsed(TURNED), pairs=True)
    assert not same_in_any_order(parsed(HASH), parsed(MIXED), pairs=True)
    assert not same_in_any_order(parsed(b"%2" + HASH[2:]), parsed(b"%2" + MIXED[2:]))


@pytest.mark.parametrize(
    ("redis", "ours", "same"),
    [
        (b":100", b":99", True),
        (b":100", b":10", False),
        (b":-1", b":0", False),
        (b":-2", b":-2", True),
        (b":5", b"+5", False),
    ],
)
def test_times_may_differ_by_seconds_but_not_in_kind(redis: bytes, ours: bytes, same: bool) -> None:
    assert same_time(parsed(redis + b"\r\n"), parsed(ours + b"\r\n"), 1000) == same


def test_a_choice_is_from_the_collection_and_repeats_only_if_it_may() -> None:
    collection = elements(parsed(A_B), False)
    twice = b"*2\r\n$1\r\na\r\n$1\r\na\r\n"
    assert same_choice(parsed(A_B), parsed(B_A), collection, False, False)
    assert not same_choice(parsed(A_B), parsed(A_C), collection, False, False)
    assert not same_choice(parsed(A_B), parsed(twice), collection, False, False)
    assert same_choice(parsed(A_B), parsed(twice), collection, False, True)
    assert same_choice(parsed(b"$1\r\na\r\n"), parsed(b"$1\r\nb\r\n"), collection, False, False)
    assert not same_choice(parsed(b"$1\r\na\r\n"), parsed(b"$1\r\nc\r\n"), collection, False, False)
    assert not same_choice(parsed(b"$1\r\na\r\n"), parsed(b"$-1\r\n"), collection, False, False)
    rows = elements(parsed(b"*2\r\n" + A_B + A_C), False)  # of ZRANGE WITHSCORES in RESP3
    assert same_choice(parsed(b"$1\r\na\r\n"), parsed(b"$1\r\na\r\n"), rows, False, False)
    assert not same_choice(parsed(b"$1\r\na\r\n"), parsed(b"$1\r\nb\r\n"), rows, False, False)
    pairs = elements(parsed(HASH), True)
    assert same_choice(parsed(HASH), parsed(TURNED), pairs, True, False)
    assert not same_choice(parsed(HASH), parsed(MIXED), pairs, True, False)


def test_what_differs_is_shrunk_to_what_it_needs() -> None:
    """It differs if APPEND k x is followed by GET k, with anything between."""
    line = "SET a 1|APPEND k 1 x 2|SET b 2|MGET a b|GET 3 k 4|SET c 3"
    commands = tuple([tuple(each.encode().split()) for each in line.split("|")])
    sequence = Sequence_(2, (b"k",), ((1, commands[:3]), (2, commands[3:])))

    def differs(each: Sequence_) -> bool:
        names = [command[0] for command in each.commands() if b"k" in command]
        return names == [b"APPEND", b"GET"] and (b"x" in each.commands()[0] or b"x" in each.commands()[1])

    small = shrunk(sequence, differs)
    assert small.batches == ((1, ((b"APPEND", b"k", b"x"),)), (2, ((b"GET", b"k"),)))
    assert "(1, (b'APPEND', b'k', b'x'))," in script_of(small)
