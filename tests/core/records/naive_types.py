"""The naive model of typed keys: sets of commands, each with the set of commands that its author had seen. No clock.

A command makes entries and supersedes others. An entry shows at a replica as long as the replica knows no command that has
seen the entry and supersedes it. What a key is follows from the entries that show, by the words of DESIGN §15.
`histories` runs random commands on records (by drafts) and on the model side by side, with merges of any earlier states.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from decimal import Decimal

from server.core.records.draft import Draft
from server.core.records.kinds import HASH, NONE, SET, STRING, TYPE_NAMES, ZSET
from server.core.records.versions import merge
from server.core.records.views import View, pack_score, unpack_score

ACTORS = [bytes(8), bytes(7) + b"\1", b"\xfe" * 8]
FIELDS = [b"", b"a", b"b", b"field 46"]  # the hash of the last one begins a chunk
NOW_MS = 1_000_000
Dot = tuple[int, bytes]  # counter, actor: in the order of time


@dataclass(frozen=True)
class Made:
    """One entry: `base` is what was put into the field, or `delta` what its actor has added to it so far."""

    dot: Dot
    type: int  # NONE for a tombstone
    field: bytes
    base: bytes | None
    delta: int = 0


@dataclass(frozen=True)
class Command:
    """What one command has made, and which entries that it had seen it supersedes."""

    dot: Dot
    made: tuple[Made, ...]
    superseded: frozenset[Made]


@dataclass
class Replica:
    """A record, and the commands that the model knows of at the same place."""

    record: bytes | None = None
    commands: frozenset[Command] = field(default_factory=frozenset)

    def shown(self) -> list[Made]:
        """The entries that no known command supersedes."""
        gone = frozenset().union(*[command.superseded for command in self.commands]) if self.commands else frozenset()
        return [made for command in self.commands for made in command.made if made not in gone]


def type_of(shown: list[Made]) -> int:
    """The type of the newest entry; a value that is older than a tombstone makes none."""
    typed = [made for made in shown if made.type != NONE and not is_buried(made, shown)]
    return max(typed, key=lambda made: made.dot).type if typed else NONE


def is_buried(made: Made, shown: list[Made]) -> bool:
    """Whether an entry is a string's value and a tombstone, or another value, is newer."""
    rivals = [each for each in shown if each.base is not None and each.type in (NONE, STRING)]
    return made.type == STRING and made.base is not None and any(each.dot > made.dot for each in rivals)


def fields_of(shown: list[Made]) -> dict[bytes, bytes]:
    """What a reader sees: payloads by field; a string is in the empty field."""
    key_type = type_of(shown)
    found: dict[bytes, bytes] = {}
    for name in {made.field for made in shown if made.type == key_type != NONE}:
        mine = [made for made in shown if made.type == key_type and made.field == name]
        bases = [made for made in mine if made.base is not None and not is_buried(made, shown)]
        deltas = sum(made.delta for made in mine if made.base is None)
        if any(made.base is None for made in mine):
            base = max(bases, key=lambda made: made.dot).base if bases else None
            if key_type == ZSET:
                found[name] = pack_score((0.0 if base is None else unpack_score(base)) + deltas)
            elif base is None or base.lstrip(b"-").isdigit():
                found[name] = b"%d" % (int(base or 0) + deltas)
            else:
                found[name] = base
        elif bases:
            found[name] = max(bases, key=lambda made: made.dot).base or b""
    return found


def seen_fields(record: bytes | None) -> tuple[int, dict[bytes, bytes]]:
    """The same of a record."""
    view = View(record, NOW_MS)
    if view.key_type == STRING:
        return STRING, {b"": view.string() or b""}
    assert len(view) == len(dict(view.items())), "the number of fields is that of the items"
    for name in FIELDS:
        assert view.get(name) == dict(view.items()).get(name)
    return view.key_type, dict(view.items())


class History:
    """Random commands at three replicas. `states` are all that any of them ever had."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.replicas = [Replica() for _ in ACTORS]
        self.states: list[tuple[bytes | None, frozenset[Command]]] = []
        self.time = 0

    def step(self) -> None:
        """One command or one merge."""
        rng = self.rng
        place = rng.randrange(len(ACTORS))
        replica = self.replicas[place]
        if self.states and rng.random() < 0.4:
            record, commands = rng.choice(self.states)
            replica.record = merge(replica.record, record)
            replica.commands |= commands
        else:
            self.time += rng.randint(1, 3)
            self.command(replica, (self.time, ACTORS[place]))
        self.states.append((replica.record, replica.commands))

    def command(self, replica: Replica, dot: Dot) -> None:
        """One command at a replica, on its record and on the model."""
        rng, shown = self.rng, replica.shown()
        key_type = rng.choice([STRING, HASH, HASH, SET, ZSET])
        what = rng.choice(["put", "put", "put", "remove", "add", "clear"])
        draft = Draft(replica.record, NOW_MS, key_type)
        assert draft.key_type == type_of(shown), (TYPE_NAMES[draft.key_type], TYPE_NAMES[type_of(shown)])
        if what == "clear" or (key_type == STRING and what in ("put", "remove")):
            value = None if what != "put" else rng.choice([b"text", b"7", b""])
            if value is None:
                draft.clear()
            else:
                draft.set_string(value)
            made = Made(dot, NONE if value is None else STRING, b"", value or b"")
            replica.commands |= {Command(dot, (made,), frozenset(shown))}
        elif draft.key_type in (NONE, key_type):
            replica.commands |= {self._change(draft, dot, shown, what, key_type)}
        if draft.changed:
            replica.record = draft.record(dot[1], dot[0])

    def _change(self, draft: Draft, dot: Dot, shown: list[Made], what: str, key_type: int) -> Command:
        rng, before = self.rng, fields_of(shown)
        names = [b""] if key_type == STRING else rng.sample(FIELDS, rng.randint(1, 2))
        gone = {made for made in shown if made.type != key_type or is_buried(made, shown)}
        made: list[Made] = []
        for name in names:
            mine = {each for each in shown if each.type == key_type and each.field == name}
            if what == "put":
                payload = {HASH: rng.choice([b"x", b"5"]), SET: b"", ZSET: pack_score(rng.randint(-3, 3))}[key_type]
                assert draft.put(name, payload) == (name not in before)
                gone |= mine
                made.append(Made(dot, key_type, name, payload))
            elif what == "remove":
                assert draft.remove(name) == (name in before)
                gone |= mine if name in before else set()
            elif key_type != SET:
                present = before.get(name, b"0")
                if key_type in (STRING, HASH) and not present.lstrip(b"-").isdigit():
                    continue  # the command would have refused it
                amount = rng.randint(-5, 5)
                draft.add(name, Decimal(amount))
                own = [each for each in mine if each.base is None and each.dot[1] == dot[1]]
                gone |= set(own) | {each for each in mine if each.base is not None and each is not _newest_base(mine)}
                made.append(Made(dot, key_type, name, None, amount + sum(each.delta for each in own)))
        if not draft.changed:
            return Command(dot, (), frozenset())
        left = set(before) - set(names) if what == "remove" else {b"something"}
        if not left:
            return Command(dot, (Made(dot, NONE, b"", b""),), frozenset(shown))
        return Command(dot, tuple(made), frozenset(gone))


def _newest_base(entries: set[Made]) -> Made | None:
    return max([each for each in entries if each.base is not None], key=lambda each: each.dot, default=None)
