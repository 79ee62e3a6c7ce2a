"""Random sequences of commands, from a seed.

Theory. A sequence has a theme: the group of one command, in turn, so that every command has its share. Most of its commands
are of that group, or about keys in general; the rest come from all. The keys of a group have names of their own, in one
slot and in several, and most calls use the keys of their group: so most commands meet their type, and some another one.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from server.core.commands.command_docs import specs_of
from server.core.commands.spec import CommandSpec
from tests.wire.differential.calls import Calls, Command
from tests.wire.differential.running import CHOICES, SCANS, Sequence_, keys_in

COMMANDS_MAX = 40
ODD_KEYS = (b"", b"\x00\xff\r\n{", b"{}x", b"k" * 300)
ALONE = {*SCANS, *CHOICES, "flushall", "flushdb", "dbsize", "keys"}
# Groups whose commands use each other's keys.
SAME_KEYS = {"geo": "sorted-set", "bitmap": "string"}


def keys_of_group(group: str) -> tuple[bytes, ...]:
    """The keys that commands of the group use: two in one slot, two in others."""
    name = SAME_KEYS.get(group, group).encode()
    return (b"{%b}1" % name, b"{%b}2" % name, b"%b3" % name, b"%b4" % name)


def sequences(specs: Sequence[CommandSpec], seed: int, leads: Sequence[CommandSpec] = ()) -> Iterator[Sequence_]:
    """Sequences without end over the commands `specs`; the same for the same seed and commands. Each in turn is about one
    of `leads`, or of all."""
    rng = random.Random(seed)
    ordered = list(leads or specs)
    while True:
        rng.shuffle(ordered)
        for number, lead in enumerate(ordered):
            yield _sequence(rng, lead, specs, 2 + number % 2)


def _sequence(rng: random.Random, lead: CommandSpec, specs: Sequence[CommandSpec], protocol: int) -> Sequence_:
    groups = sorted({spec.group for spec in specs if specs_of(spec) and spec.group != "generic"})
    theme = lead.group if lead.group in groups else rng.choice(groups)

    def key_for(spec: CommandSpec) -> bytes:
        if rng.random() < 0.02:
            return rng.choice(ODD_KEYS)
        group = spec.group if spec.group in groups else theme
        return rng.choice(keys_of_group(rng.choice(groups) if rng.random() < 0.07 else group))

    calls = Calls(rng, key_for)
    themed = [spec for spec in specs if spec.group == theme or SAME_KEYS.get(spec.group) == theme]
    general = [spec for spec in specs if spec.group == "generic"]
    batches: list[tuple[int, list[Command]]] = []
    is_alone = True
    for _ in range(rng.randrange(5, COMMANDS_MAX)):
        spec = _chosen(rng, lead, themed, general, specs)
        if is_alone or spec.name in ALONE or rng.random() < 0.2:
            batches.append((rng.randrange(3), []))
        is_alone = spec.name in ALONE
        batches[-1][1].append(calls.call(spec))
    whole = tuple((node, tuple(batch)) for node, batch in batches)
    return Sequence_(protocol, tuple(keys_in([each for _, batch in whole for each in batch])), whole)


def _chosen(
    rng: random.Random,
    lead: CommandSpec,
    themed: Sequence[CommandSpec],
    general: Sequence[CommandSpec],
    specs: Sequence[CommandSpec],
) -> CommandSpec:
    chance = rng.random()
    if chance < 0.2:
        return lead
    return rng.choice(themed if chance < 0.7 and themed else general if chance < 0.88 and general else specs)
