"""Lists: against a list of Python, after concurrent writes, and through a whole node."""

from __future__ import annotations

import random
from collections.abc import Callable

import hiredis
import pytest

from protocol.slots import key_slot
from server.core.base.sinks import Sink
from server.core.commands.lists import edits
from server.core.commands.lists.items import items_backwards, items_from, spread
from server.core.commands.typed import reply_now
from server.core.records.draft import Draft
from server.core.records.kinds import LIST
from server.core.records.records import storage_key_in
from server.core.records.versions import merge, verify
from server.core.records.views import View
from tests.core.commands.talking import Client, make_node

NOW_MS = 1_000_000
ACTORS = [b"actor-a.", b"actor-b.", b"actor-c."]
WRONGTYPE = "WRONGTYPE Operation against a key holding the wrong kind of value"
SINK = Sink()


def values_of(record: bytes | None) -> list[bytes]:
    return [value for _, value in View(record, NOW_MS).items()]


def change(record: bytes | None, line: str, actor: bytes, counter: int) -> bytes | None:
    """The record after a command."""
    draft = Draft(record, NOW_MS, LIST)
    name, *args = line.split()
    function: Callable[[Draft, list[bytes], Sink], object] = getattr(edits, name)
    reply_now(function(draft, [b"", b"key", *[word.encode() for word in args]], SINK))
    return draft.record(actor, counter) if draft.changed else record


def random_line(rng: random.Random, number: int, present: list[bytes]) -> str:
    """A command on a list that holds these values; what it adds is new."""
    value = f"v{number}"
    index = rng.randrange(-len(present) - 1, len(present) + 1)
    some = rng.choice(present).decode() if present else "none"
    lines = [f"lpush {value}", f"rpush {value} {value}b", f"lpop {rng.randrange(3)}", f"rpop {rng.randrange(3)}",
             f"linsert before {some} {value}", f"linsert after {some} {value}", f"lrem {rng.randrange(-2, 3)} {some}",
             f"ltrim {rng.randrange(3)} {rng.choice([-1, -2, 50])}", f"rpush {value}", f"lpush {value}"]  # fmt: skip
    if present and -len(present) <= index < len(present):
        lines.append(f"lset {index} {value}")
    return rng.choice(lines)


def run_on(present: list[bytes], line: str) -> list[bytes]:
    """What a list of Python becomes by the same command."""
    name, *args = line.split()
    words = [word.encode() for word in args]
    if name == "lpush":
        return words[::-1] + present
    if name == "rpush":
        return present + words
    if name in ("lpop", "rpop"):
        count = int(args[0])
        return present[count:] if name == "lpop" else present[: max(len(present) - count, 0)]
    if name == "lset":
        present = list(present)
        present[int(args[0])] = words[1]
        return present
    if name == "linsert":
        place = present.index(words[1]) + (args[0] == "after") if words[1] in present else -1
        return present if place < 0 else [*present[:place], words[2], *present[place:]]
    if name == "lrem":
        count = int(args[0])
        left = list(present) if count >= 0 else present[::-1]
        for _ in range(min(abs(count) or len(left), left.count(words[1]))):
            left.remove(words[1])
        return left if count >= 0 else left[::-1]
    stop = int(args[1])
    return present[int(args[0]) : stop + 1 or None]


@pytest.mark.parametrize("seed", range(30))
def test_commands_do_what_they_do_to_a_list(seed: int) -> None:
    rng = random.Random(seed)
    record: bytes | None = None
    present: list[bytes] = []
    for number in range(1, 200):
        line = random_line(rng, number, present)
        record = change(record, line, ACTORS[0], number)
        present = run_on(present, line)
        assert values_of(record) == present, line
        view = View(record, NOW_MS)
        assert len(view) == len(present) == sum(view.item_counts())
        assert not view.shares_positions()
        assert [value for _, value in items_backwards(view)] == present[::-1]
        start = rng.randrange(len(present) + 1)
        assert [value for _, value in items_from(view, start)] == present[start:]
        assert record is None or verify(record)


@pytest.mark.parametrize("seed", range(30))
def test_what_was_pushed_and_not_removed_is_there_whatever_the_others_do(seed: int) -> None:
    """Three replicas write and merge at random. All items that nobody has removed are there in the end, equal everywhere;
    an item that was removed and comes back was pushed again by a command that gave it a position of its own."""
    rng = random.Random(seed)
    records: list[bytes | None] = [None] * 3
    pushed: set[bytes] = set()
    removed: set[bytes] = set()
    for number in range(1, 120):
        place = rng.randrange(3)
        if rng.random() < 0.3:
            records[place] = merge(records[place], records[rng.randrange(3)])
            continue
        before = values_of(records[place])
        records[place] = change(records[place], random_line(rng, number, before), ACTORS[place], number)
        after = values_of(records[place])
        pushed |= set(after)
        removed |= set(before) - set(after)
        assert len(View(records[place], NOW_MS)) == len(after) == sum(View(records[place], NOW_MS).item_counts())
    joined = merge(merge(records[0], records[1]), records[2])
    assert joined == merge(records[2], merge(records[1], records[0]))
    final = values_of(joined)
    assert pushed - removed <= set(final) <= pushed
    assert len(View(joined, NOW_MS)) == len(final)


def test_two_sides_that_push_at_one_end_stand_beside_each_other() -> None:
    common = change(None, "rpush a b", ACTORS[0], 1)
    one, other = change(common, "rpush x1 x2", ACTORS[1], 2), change(common, "rpush y1 y2", ACTORS[2], 3)
    both = merge(one, other)
    assert values_of(both) == [b"a", b"b", b"x1", b"y1", b"x2", b"y2"]
    assert View(both, NOW_MS).shares_positions()
    assert values_of(change(both, "rpop 1", ACTORS[0], 4)) == [b"a", b"b", b"x1", b"y1", b"x2"], "one item, not two"
    assert values_of(change(both, "lset 2 z", ACTORS[0], 4)) == [b"a", b"b", b"z", b"y1", b"x2", b"y2"]
    assert values_of(change(both, "linsert after x1 z", ACTORS[0], 4)) == [b"a", b"b", b"x1", b"z", b"y1", b"x2", b"y2"]
    assert values_of(change(both, "lrem 0 y1", ACTORS[0], 4)) == [b"a", b"b", b"x1", b"x2", b"y2"]
    draft = Draft(both, NOW_MS, LIST)
    spread(draft)
    spread_out = draft.record(ACTORS[0], 4)
    assert values_of(spread_out) == values_of(both) and not View(spread_out, NOW_MS).shares_positions()


def test_a_removal_takes_only_what_it_has_seen() -> None:
    common = change(None, "rpush a b", ACTORS[0], 1)
    trimmed, grown = change(common, "ltrim 1 0", ACTORS[1], 2), change(common, "rpush c", ACTORS[2], 3)
    assert values_of(merge(trimmed, grown)) == [b"c"]


# --- through a node


@pytest.fixture
def client() -> Client:
    """A client of a node that is alone."""
    return Client(make_node())


def test_a_list_without_items_does_not_exist(client: Client) -> None:
    assert client.ask("RPUSH l a b") == 2
    assert client.ask("TYPE l") == "list"
    assert client.ask("LPOP l 5") == ["a", "b"]
    assert client.ask("EXISTS l") == 0
    assert client.ask("LPOP l") is None
    assert client.ask("RPUSHX l a") == 0


def test_an_expiry_is_of_the_whole_list(client: Client) -> None:
    client.ask("RPUSH l a b c")
    client.ask("EXPIRE l 100")
    assert client.ask("LPUSH l z") == 4
    assert client.ask("TTL l") == 100
    assert client.ask("LRANGE l 0 -1") == ["z", "a", "b", "c"]
    assert client.ask("LLEN l") == 4
    assert client.ask("LINDEX l -1") == "c"


def test_moves(client: Client) -> None:
    client.ask("RPUSH l a b c")
    assert client.ask("LMOVE l m LEFT RIGHT") == "a"
    assert client.ask("RPOPLPUSH l m") == "c"
    assert client.ask("LRANGE m 0 -1") == ["c", "a"]
    assert client.ask("RPOPLPUSH m m") == "a", "it turns round"
    assert client.ask("LRANGE m 0 -1") == ["a", "c"]
    assert client.ask("LMOVE m m LEFT LEFT") == "a"
    assert client.ask("LMOVE none m LEFT LEFT") is None
    client.ask("SET s text")
    assert client.error("LMOVE l s LEFT LEFT") == WRONGTYPE
    assert client.ask("LRANGE l 0 -1") == ["b"], "what cannot be put anywhere stays"
    assert client.ask("LMPOP 3 none l m LEFT COUNT 2") == ["l", ["b"]]
    assert client.ask("LMPOP 2 none l RIGHT") is None


def test_a_move_lets_its_source_go_whatever_happens(client: Client) -> None:
    client.ask("RPUSH l a b")
    client.ask("SET s text")
    client.error("LMOVE l s LEFT LEFT")
    client.ask("LMOVE l m LEFT LEFT")
    assert not client.node.state.holds.is_held(storage_key_in(key_slot(b"l"), b"l"))


def test_copies_and_payloads_hold_the_items_in_their_order(client: Client) -> None:
    client.ask("RPUSH l a b a c")
    assert client.ask("COPY l copy") == 1
    assert client.ask("RENAME copy other") == "OK"
    assert client.ask("LRANGE other 0 -1") == ["a", "b", "a", "c"]
    assert client.ask("SORT l BY nosort STORE sorted") == 4
    assert client.ask("LRANGE sorted 0 -1") == ["a", "b", "a", "c"]
    assert client.ask("SORT none STORE sorted") == 0
    assert client.ask("EXISTS sorted") == 0
    assert client.ask("OBJECT ENCODING l") == "quicklist"


def test_a_dump_restores_the_same_list(client: Client) -> None:
    client.ask("RPUSH l a b a c")
    reader = hiredis.Reader()
    reader.feed(client.raw("DUMP l"))
    dumped = reader.gets()
    assert client.raw_words([b"RESTORE", b"m", b"0", dumped]) == b"+OK\r\n"
    assert client.ask("LRANGE m 0 -1") == ["a", "b", "a", "c"]
    assert client.raw_words([b"RESTORE", b"l", b"5000", dumped, b"REPLACE"]) == b"+OK\r\n"
    assert client.ask("LLEN l") == 4 and client.ask("PTTL l") == 5000
