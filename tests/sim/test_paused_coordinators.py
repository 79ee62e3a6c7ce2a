"""A coordinator that stands still and goes on: neither what it had begun nor what was relayed to it loses writes."""

from __future__ import annotations

import pytest

from server.core.base.config import Config
from server.core.base.pauses import Pauses
from server.core.requests.relays import Relays
from tests.sim.warm import warm_world

TICKS_MS = 2 * Config().tick_ms
SEEDS = range(8)


@pytest.mark.parametrize("frozen_ms", [100, 300, 700])
def test_an_increment_is_counted_once(frozen_ms: int) -> None:
    """It waits for the coordinator, which has read it, or has it in its socket, and goes on."""
    world, key = warm_world(frozen_ms, 1000)
    n1, n2, _ = world.hosts
    operations = [operation for _ in range(9) for operation in world.client(n1).send([b"INCR", b"{%b}:n" % key])]
    world.run(frozen_ms % 7)
    n2.freeze()
    world.run(frozen_ms)
    n2.thaw()
    assert world.run_until(5000, lambda: all(each.answered for each in operations))
    assert sorted(each.reply for each in operations) == list(range(1, 10))


@pytest.mark.parametrize(("frozen_ms", "slow_ms"), [(280, 0), (0, 200)], ids=["a pause", "a slow path"])
@pytest.mark.parametrize("seed", range(4))
def test_no_write_that_reads_first_is_lost(seed: int, frozen_ms: int, slow_ms: int) -> None:
    """No second coordinator runs SETRANGEs of one string beside the first. n1 and n3 send them."""
    world, key = warm_world(seed, 1000)
    n1, n2, n3 = world.hosts
    world.ask(n1, "SETRANGE", b"{%b}:s" % key, "0", "." * 240)
    path = world.network.path(n1.id, n2.id)
    operations = []
    for turn in range(120):
        if turn == 20 and frozen_ms:
            n2.freeze()
        if turn == 20 and slow_ms:
            path.delay_ms_min = path.delay_ms_max = slow_ms
        if turn == 20 + (frozen_ms or slow_ms) // 5:
            n2.thaw() if frozen_ms else world.network.mend(n1.id, n2.id)
        for place, host in enumerate((n1, n3)):
            args = [b"SETRANGE", b"{%b}:s" % key, b"%d" % (2 * turn + place), b"x"]
            operations += world.client(host).send(args)
        world.run(5)
    assert world.run_until(6000, lambda: all(each.answered for each in operations))
    value = world.ask(n1, "GET", b"{%b}:s" % key).reply
    acknowledged = [place for place, each in enumerate(operations) if isinstance(each.reply, int)]
    assert len(acknowledged) == len(operations)
    assert all(value[place : place + 1] == b"x" for place in acknowledged)


def _write_to_the_lost(seed: int) -> bytes:
    """The value in the end. n2 is lost for its silence when a command to it is 100 ms old."""
    world, key = warm_world(seed, 1000)
    n1, n2, n3 = world.hosts
    n2.freeze()
    first = world.client(n1).send([b"SET", b"{%b}:other" % key, b"x"])[0]
    world.run(Config().relay_silence_ms - 100)
    old = world.client(n1).send([b"SET", key, b"old"])[0]
    world.run(200 + 2 * TICKS_MS)
    newer = world.ask(n1, "SET", key, "new") if old.answered else None
    n2.thaw()
    assert world.run_until(5000, lambda: first.answered and old.answered)
    if newer is None:
        assert world.ask(n3, "SET", key, "new").reply == b"OK"
    world.run(3000)
    return bytes(world.ask(n1, "GET", key).reply)


def test_a_lost_coordinator_that_was_only_suspended_brings_nothing_old_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was sent to it a moment before it counted as lost is not run by others yet. And it does not run what was sent
    to it before it went on. Each of the two is enough here."""
    assert [_write_to_the_lost(seed) for seed in SEEDS] == [b"new"] * len(SEEDS)
    give_up = Relays.give_up
    monkeypatch.setattr(Relays, "give_up", lambda self, peer, trouble, _: give_up(self, peer, trouble, 1 << 60))
    monkeypatch.setattr(Pauses, "is_outdated", lambda self, read_ms: False)
    assert b"old" in [_write_to_the_lost(seed) for seed in SEEDS]


# What a client of n2 sends, what a client of n1 sends while n2 stands still, and the pairs of replies, the last one to the
# former and the one to the latter, that some order of these commands gives.
CASES: dict[str, tuple[str, str, list[tuple[object, object]]]] = {
    "one step": ("SET k a NX", "SET k b NX", [(None, b"OK"), (b"OK", None)]),
    "steps": ("APPEND k a", "APPEND k bb", [(3, 2), (1, 3)]),
    "a chain": ("APPEND k a; STRLEN k; APPEND k a", "APPEND k bb", [(4, 2), (4, 3), (2, 4)]),
    "a transaction": ("MULTI; APPEND k a; EXEC", "APPEND k bb", [([3], 2), ([1], 3)]),
    "a blocking command": ("BLPOP l 0.1", "LPOP l", [(None, b"e"), ([b"l", b"e"], None)]),
}


def _replies_around_a_pause(case: str, seed: int) -> tuple[object, object]:
    """The replies to both clients. n2 coordinates the key, and stands still `seed` ms after its client has sent."""
    world, key = warm_world(seed, 1000)
    n1, n2, _ = world.hosts
    own, other, _ = CASES[case]
    names = {b"k": b"{%b}:k" % key, b"l": b"{%b}:l" % key}

    def words(line: str) -> list[bytes]:
        return [names.get(word, word) for word in line.encode().split()]

    assert world.ask(n1, "RPUSH", names[b"l"], "e").reply == 1
    first = world.client(n2).send(*map(words, own.split("; ")))[-1]
    world.run(seed)
    n2.freeze()
    assert world.ask(n1, "SET", b"{%b}:x" % key, "x").reply == b"OK", "n1 has given up n2"
    second = world.ask(n1, *words(other))
    n2.thaw()
    assert world.run_until(5000, lambda: first.answered)
    reply = [b"l", *first.reply[1:]] if isinstance(first.reply, list) and case == "a blocking command" else first.reply
    return reply, second.reply


@pytest.mark.parametrize("case", CASES)
def test_what_was_read_before_a_pause_decides_no_write(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without that, a lock has two holders, an element is delivered twice, and an acknowledged APPEND is lost."""
    sound = CASES[case][2]
    assert not [seed for seed in SEEDS if _replies_around_a_pause(case, seed) not in sound]
    monkeypatch.setattr(Pauses, "is_outdated", lambda self, read_ms: False)
    assert [seed for seed in SEEDS if _replies_around_a_pause(case, seed) not in sound], "the fault is found"


@pytest.mark.parametrize("commands", [[b"INCR %b"], [b"MULTI", b"INCR %b", b"EXEC"]], ids=["one key", "a transaction"])
def test_a_node_that_stands_still_again_and_again_answers_its_clients(commands: list[bytes]) -> None:
    """Each read that it begins is outdated when the quorum has answered, and is begun again: but not for ever."""
    world, key = warm_world(3, 1000)
    n2 = world.hosts[1]
    operations = world.client(n2).send(*[(line % key if b"%" in line else line).split() for line in commands])
    for _ in range(2 + Config().request_timeout_ms // 1100):
        world.run(1)
        n2.freeze()
        world.run(1100)
        n2.thaw()
    assert operations[-1].answered
    assert operations[-1].error.startswith("TIMEOUT read") and "has stood still again and again" in operations[-1].error
    world.run(1000)
    assert world.ask(n2, "GET", key).reply == b"warm"
