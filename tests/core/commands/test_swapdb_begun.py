"""SWAPDB and what has begun before: a transaction or a script, and each database that it names, is of the former ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from server.core.base.errors import CommandError
from server.core.commands.transactions.relayed import SlotTransaction, decode
from server.core.scripts.engine import Call
from tests.core.commands.scripting.test_command_by_command import Engine
from tests.core.commands.swapping import Swapping, Talker, swapped
from tests.core.commands.talking import CONFIG

STEPS = (0, 1)
RELAXED = replace(CONFIG, multi_slots="relaxed")


def running(function: Callable[[Call], bytes]) -> Swapping:
    """A cluster whose scripts all are this function."""
    cluster = Swapping(config=RELAXED)
    for node in cluster.nodes:
        node.services.scripts.make_engine = lambda: Engine(function)
    return cluster


def keys_by_database(cluster: Swapping) -> list[list[str]]:
    """The keys of the databases 0 to 2."""
    talker, found = cluster.client(1), []
    for database in range(3):
        assert talker.ask(f"SELECT {database}") == "OK"
        found.append(sorted(talker.ask("KEYS *")))
    return found


def begun_before(cluster: Swapping, talker: Talker, line: str, steps: int, swap: str = "SWAPDB 0 1") -> Any:
    """The reply to a command, some steps after whose begin another client, of another node, has swapped databases."""
    other = cluster.client(0)
    talker.begin(line)
    for _ in range(steps):
        cluster.step(1)
    other.begin(swap)
    reply = talker.reply()
    assert other.reply() == "OK"
    return reply


@pytest.mark.parametrize("steps", STEPS)
def test_a_transaction_finds_the_databases_that_it_selects_where_they_were(steps: int) -> None:
    cluster = Swapping(config=RELAXED)
    talker = cluster.client(2)
    for line in ("MULTI", "SET a0 v", "SELECT 1", "SET a1 v", "SET b1 v", "SELECT 0", "SET b0 v"):
        talker.ask(line)
    assert begun_before(cluster, talker, "EXEC", steps) == ["OK"] * 6
    assert keys_by_database(cluster) == [["a1", "b1"], ["a0", "b0"], []]
    assert sorted(talker.ask("KEYS *")) == ["a1", "b1"], "the client itself is in the present database 0"


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize(("line", "stays"), [("MOVE {} 1", []), ("COPY {} {} DB 1", ["m"])])
@pytest.mark.parametrize("other_key", ["x", ""])
def test_a_transaction_moves_and_copies_to_the_database_that_it_names(
    steps: int, line: str, stays: list[str], other_key: str
) -> None:
    cluster = Swapping(config=RELAXED)
    talker = cluster.client(2)
    for words in ("SET m v", "MULTI", f"SET {other_key or '{m}n'} v", line.format("m", "m")):
        talker.ask(words)
    assert begun_before(cluster, talker, "EXEC", steps) == ["OK", 1]
    assert keys_by_database(cluster) == [["m"], sorted([*stays, other_key or "{m}n"]), []]


@pytest.mark.parametrize("steps", [*STEPS, 6])
@pytest.mark.parametrize("in_transaction", [False, True])
def test_a_script_finds_the_databases_that_it_selects_where_they_were(steps: int, in_transaction: bool) -> None:
    def function(call: Call) -> bytes:
        for words in (b"PUBLISH ch m", b"SET a v", b"SELECT 1", b"SET b v", b"SELECT 2", b"SET c v", b"MOVE c 1"):
            call(words.split(), False)
        return b"+done\r\n"

    cluster = running(function)
    talker = cluster.client(2)
    if in_transaction:
        talker.ask("MULTI"), talker.ask("SET first v"), talker.ask("EVAL text 3 a b c")
        assert begun_before(cluster, talker, "EXEC", steps) == ["OK", "done"]
    else:
        assert begun_before(cluster, talker, "EVAL text 3 a b c", steps) == "done"
    assert keys_by_database(cluster) == [["b", "c"], ["a", *["first"] * in_transaction], []]


@pytest.mark.parametrize("steps", STEPS)
def test_a_script_on_one_slot_finds_databases_by_the_numbering_of_its_call(steps: int) -> None:
    def function(call: Call) -> bytes:
        for words in (b"SET {k}a v", b"SELECT 1", b"SET {k}b v"):
            call(words.split(), False)
        return b"+done\r\n"

    cluster = running(function)
    assert begun_before(cluster, cluster.client(2), "EVAL text 2 {k}a {k}b", steps) == "done"
    assert keys_by_database(cluster) == [["{k}b"], ["{k}a"], []]


def test_what_follows_a_swap_of_its_own_goes_by_the_present_numbering() -> None:
    def function(call: Call) -> bytes:
        for words in (b"SET a v", b"SWAPDB 0 1", b"SET b v", b"SELECT 1", b"SET c v"):
            call(words.split(), False)
        return b"+done\r\n"

    cluster = running(function)
    talker = cluster.client(2)
    assert talker.ask("EVAL text 3 a b c") == "done"
    assert keys_by_database(cluster) == [["b"], ["a", "c"], []]
    for line in ("MULTI", "SWAPDB 0 1", "SET d v", "SELECT 1", "SET e v"):
        talker.ask(line)
    assert talker.ask("EXEC") == ["OK"] * 4
    assert keys_by_database(cluster) == [["a", "c", "d"], ["b", "e"], []]


def test_a_transaction_takes_the_spaces_of_databases_to_its_coordinator() -> None:
    transaction = SlotTransaction([[b"MOVE", b"k", b"1"]], {b"k": b"token"}, swapped((0, 1), (1, 15)))
    call = transaction.encode()
    assert decode(call) == transaction
    for word in (b"1.0123", b"1.00123456789abcde", b"1.0123456789abcdeg"):
        with pytest.raises(CommandError, match="malformed transaction"):
            decode([*call[:2], word, *call[3:]])
    assert SlotTransaction(*transaction[:2]).encode()[2] == b"1", "before the first swap it is as in earlier versions"
