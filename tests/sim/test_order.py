"""A pipeline's commands take effect in order, however it is cut on its way and whoever coordinates its keys.

A single client on a cluster without faults must not be able to tell it from one Redis server: each reply is compared with
that of a plain dictionary that runs the commands one by one.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from protocol.resp import Reply
from server.core import chains, dispatch
from server.core.chains import Chains
from server.core.commands.strings import value_reply
from server.core.requests.relay_rows import RelayItem
from tests.sim.clients import Operation
from tests.sim.runs import config
from tests.sim.seeds import seeds
from tests.sim.world import World

KEYS = [b"a", b"b", b"c"]
Answer = bytes | int | None


class Model:
    """What Redis would answer."""

    def __init__(self) -> None:
        self._values: dict[bytes, bytes] = {}

    def answer(self, args: Sequence[bytes]) -> Answer | list[Answer]:
        """Runs one command."""
        name, keys, values = args[0], args[1:], self._values
        if name == b"GET":
            return values.get(keys[0])
        if name == b"MGET":
            return [values.get(key) for key in keys]
        if name == b"EXISTS":
            return sum(key in values for key in keys)
        if name == b"DEL":
            return sum(values.pop(key, None) is not None for key in keys)
        if name == b"MSET":
            values.update(zip(keys[::2], keys[1::2], strict=True))
            return b"OK"
        if name == b"APPEND":
            values[keys[0]] = values.get(keys[0], b"") + keys[1]
            return len(values[keys[0]])
        if name == b"COPY":
            if keys[0] not in values:
                return 0
            values[keys[1]] = values[keys[0]]
            return 1
        if len(args) == 4 and args[1] in values:  # NX
            return None
        values[args[1]] = args[2]
        return b"OK"


def _commands(rng: random.Random, count: int) -> list[list[bytes]]:
    keys = rng.sample(KEYS, rng.randint(1, len(KEYS)))
    of_many_keys = rng.random() < 0.5
    sets = rng.choice((1, 20))  # of many that wait behind each other only the last one runs
    commands = []
    for number in range(count):
        key, value = rng.choice(keys), b"%d" % number
        of_one = (
            [b"GET", key],
            *[[b"SET", key, value]] * sets,
            [b"SET", key, value, b"NX"],
            [b"DEL", key],
            [b"EXISTS", key],
            [b"APPEND", key, value],
        )
        of_many = (
            [b"MGET", *rng.sample(KEYS, 2)],
            [b"MSET", rng.choice(KEYS), value, key, value],
            [b"DEL", *rng.sample(KEYS, 2)],
            [b"COPY", *rng.sample(KEYS, 2), b"REPLACE"],
        )
        commands.append(rng.choice(of_one + of_many if of_many_keys else of_one))
    return commands


def _ask_in_pieces(world: World, rng: random.Random, commands: list[list[bytes]]) -> list[Operation]:
    client = world.client(rng.choice(world.hosts))
    operations: list[Operation] = []
    while commands:
        count = rng.randint(1, 12)
        operations += client.send(*commands[:count])
        commands = commands[count:]
        world.run(rng.choice((0, 0, 1, 3)))
    assert world.run_until(10_000, lambda: client.idle)
    return operations


def _wrong(seed: int) -> list[str]:
    rng = random.Random(seed)
    world = World(seed, rng.choice((1, 3, 4)), config=config(turn_commands_max=rng.choice((3, 200))))
    world.start()
    world.run(100)
    model, wrong = Model(), []
    for _ in range(4):
        for operation in _ask_in_pieces(world, rng, _commands(rng, 60)):
            expected = model.answer(operation.args)
            if operation.reply != expected:
                wrong.append(f"{operation.args}: {operation.reply!r}, not {expected!r}")
    return wrong


@pytest.mark.parametrize("seed", seeds(12, 24))
def test_a_pipeline_is_answered_as_by_one_server(seed: int) -> None:
    assert _wrong(seed) == []


def test_chains_in_no_order_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(self: Chains, key: bytes, chain: list[RelayItem]) -> None:
        for item in chain:
            self.run_one(item.sink, item.number, item.args)

    monkeypatch.setattr(Chains, "run", run)
    assert any(_wrong(seed) for seed in range(8))


def test_gets_that_read_a_later_set_of_their_chain_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(self: chains._LastSet, number: int, reply: Reply) -> None:
        for item in self._items:
            item.sink.answer(item.number, reply if len(item.args) == 3 else value_reply(self._last.args[2]))

    monkeypatch.setattr(chains._LastSet, "answer", answer)
    assert any(_wrong(seed) for seed in range(24))


def test_reads_beside_a_chain_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "EXCLUSIVE", dispatch.READ)
    assert any(_wrong(seed) for seed in range(24))


@pytest.mark.parametrize(
    ("line", "left"),
    [
        ("MOVE k 1", [b"4"]),
        ("SORT k BY weight:* STORE k", [b"1", b"2", b"3", b"4"]),
        ("SORT k GET weight:* STORE k", [b"", b"", b"", b"4"]),
        ("SUNIONSTORE k k", None),
        ("COPY k k DB 1", [b"3", b"1", b"2", b"4"]),
    ],
)
def test_what_uses_other_keys_takes_effect_before_the_next_command(line: str, left: list[bytes] | None) -> None:
    world = World(5, 3)
    world.start()
    world.run(3000)
    for host in world.hosts:
        client = world.client(host)
        lines = ("DEL k", "RPUSH k 3 1 2", line, "LRANGE k 0 -1", "RPUSH k 4", "LRANGE k 0 -1", "SELECT 1", "DEL k")
        operations = client.send(*[each.encode().split() for each in lines])
        assert world.run_until(10_000, lambda: client.idle)  # noqa: B023
        replies = [operation.reply for operation in operations]
        assert replies[5] == (left or [b"3", b"1", b"2", b"4"])
        assert replies[3] == replies[5][:-1], "what the first one has seen and the later one has not"
