"""What storms over a changing ring have found, each by itself: sides that never heard of each other, damage on a node that
leaves, a removed node's retries."""

from __future__ import annotations

from dataclasses import replace

import pytest

from protocol.slots import key_slot
from server.core.base.config import Config
from server.core.base.errors import has_left
from server.core.records.records import storage_key_of
from server.core.requests.relay_sinks import SecondAttempt
from server.core.ring.change import REPLACE, WEIGHT
from server.core.ring.layout import Layout
from server.core.ring.succession import LOG_MAX, commit
from tests.sim.changes import change, commit_at, join, leave, members_of, records_on, remove, settled, unfinished
from tests.sim.world import World

DONE_MS = 60_000


class _Asker:
    """Keeps the last reply."""

    relayed = resp3 = denies_blocking = False
    origin = kept_numbering = None
    read_quorum = write_quorum = space = 0
    reply = b""

    def answer(self, number: int, reply: bytes) -> None:
        """Takes it."""
        self.reply = reply


def test_sides_that_have_never_heard_of_each_other_come_together() -> None:
    """The only node that both sides know is gone: those who know of the other side tell it."""
    world = World(1, 2)
    world.start()
    n1, n2 = world.hosts
    n3, n4 = world.add_host(), world.add_host()
    for host in (n1, n3, n4):
        world.network.cut(host.id, n2.id)
        world.network.cut(n2.id, host.id)
    commit_at(n1, join(n3))
    assert world.run_until(5000, lambda: n3.running.state.layout is not None)
    n1.kill()
    commit_at(n3, change(REPLACE, n1, n4, gone=True))
    world.run(3000)
    for host in (n3, n4):
        world.network.mend(host.id, n2.id)
        world.network.mend(n2.id, host.id)
    assert world.run_until(DONE_MS, settled(world)), unfinished(world)
    assert {host.member.name for host in members_of(world)} == {"n2", "n3", "n4"}


def test_a_node_leaves_that_cannot_read_some_of_what_it_holds() -> None:
    """It learns from others which of its records are damaged, and does not wait for the scrub to come round."""
    world = World(1, 4, Config(record_cache_bytes=0, scrub_interval_ms=86_400_000))
    world.start()
    n2 = world.hosts[1]
    keys = [b"k%d" % number for number in range(20)]
    for key in keys:
        assert world.ask(world.hosts[0], "SET", key, "value").reply == b"OK"
    world.run(1000)
    damaged = next(storage_key_of(key) for key in keys if world.stored(n2, key) is not None)
    n2.stop()
    n2.disk.damage_block(damaged)
    n2.start()
    assert world.run_until(5000, world.at_peace)
    commit_at(world.hosts[0], leave(n2))
    assert world.run_until(DONE_MS, settled(world)), unfinished(world)
    assert not records_on(n2)
    assert all(world.ask(world.hosts[0], "GET", key).reply == b"value" for key in keys)


def test_who_joins_again_has_forgotten_what_it_wrote_and_writes_as_somebody_else() -> None:
    """Else its first write would cover, under its old actor, what the others still hold of it (P2)."""
    world = World(1, 3)
    world.start()
    n1, n2, n3 = world.hosts
    key = world.key_of(n1)
    token = world.ask(n1, "DYN.SET", key, "one").reply[0]
    assert not world.ask(n1, "DYN.SET", key, "two").error
    world.run(500)
    commit_at(n2, remove(n1))
    assert world.run_until(5000, lambda: n1.running.state.layout is None)
    commit_at(n2, join(n1))
    assert world.run_until(5000, lambda: n1.running.state.layout is not None and not records_on(n1))
    for host in (n2, n3):
        world.network.cut(n1.id, host.id)
        world.network.cut(host.id, n1.id)
    world.run(5000)
    assert not world.ask(n1, "DYN.SET", key, "three", "CONTEXT", token, "W", 1).error
    for host in (n2, n3):
        world.network.mend(n1.id, host.id)
        world.network.mend(host.id, n1.id)
    assert world.run_until(DONE_MS, settled(world)), unfinished(world)
    assert sorted(world.ask(n2, "DYN.GET", key, "R", 3).reply[1]) == [b"three", b"two"]


def test_a_disk_rolled_back_to_before_the_only_other_member_came_again() -> None:
    """By its layout that node has left. But its layout is the older one, so it listens."""
    world = World(1, 2)
    world.start()
    n1, n2 = world.hosts
    assert world.ask(n2, "SET", "key", "value").reply == b"OK"
    commit_at(n2, leave(n1))
    assert world.run_until(DONE_MS, lambda: n1.running.state.layout is None)
    copy = n2.disk.copy()
    commit_at(n2, join(n1))
    assert world.run_until(DONE_MS, settled(world)), unfinished(world)
    n2.kill()
    n2.disk.roll_back(copy)
    n2.start()
    assert world.run_until(DONE_MS, settled(world)), unfinished(world)
    assert len(members_of(world)) == 2
    assert world.ask(n2, "GET", "key").reply == b"value"


def test_a_removal_that_the_log_does_not_remember_is_told_all_the_same() -> None:
    world = World(1, 3)
    world.start()
    n1, n2, n3 = world.hosts
    n3.kill()
    commit_at(n1, remove(n3))
    for weight in range(LOG_MAX):
        commit_at(n1, replace(change(WEIGHT, n2), weight=1 + weight % 2))
        world.run(20)
    assert all(entry.node != n3.id for entry in world.layout.log)
    n3.start()
    assert world.run_until(5000, lambda: n3.running.state.layout is None)


def _moving_partition(present: Layout, following: Layout, coordinator: str) -> tuple[int, str]:
    """A partition that one node holds whole, and a new keeper of it; the other one is its first fallback afterwards."""
    for partition in range(present.partitions):
        keepers = following.keepers(partition)
        first = following.preference_list(partition)[len(keepers) :][:1]
        others = [node for node in present.keepers(partition) if node not in (coordinator, *first)]
        if present.readers(partition) == (coordinator,) and len(others) == len(first) == 1:
            return partition, others[0]
    raise AssertionError("no such partition")


def test_a_former_keeper_that_has_confirmed_a_write_does_not_stand_in_for_another_one() -> None:
    """The layout changes while the write waits: so many disks as it wants are as many nodes."""
    world = World(1, 6)
    world.start()
    n1, n2, n3, *_ = world.hosts
    n7, n8 = world.add_host(), world.add_host()
    present = commit_at(n1, remove(n2), remove(n3), join(n7), join(n8))
    another = join(world.add_host())
    partition, silent = _moving_partition(present, commit(present, [another]), n1.id)
    keys = (b"k%d" % number for number in range(10**4))
    key = next(key for key in keys if present.partition_of(key_slot(key)) == partition)
    world.run(50)
    for host in world.hosts:
        if host.id != silent:
            world.network.cut(host.id, silent)
            world.network.cut(silent, host.id)
    (write,) = world.client(n1).send([b"DYN.SET", key, b"value", b"W", b"3"])
    world.run(50)
    commit_at(n1, another)
    assert world.run_until(5000, lambda: write.answered)
    assert write.error or sum(world.stored(host, key) is not None for host in world.hosts) >= 3


@pytest.mark.parametrize("seed", range(4))
def test_who_comes_again_while_its_old_links_end_is_linked(seed: int) -> None:
    """The end of the old link is told after the new one was opened."""
    world = World(seed, 4)
    world.start()
    n1, n2, _, n4 = world.hosts
    commit_at(n1, leave(n4))
    assert world.run_until(DONE_MS, settled(world)), unfinished(world)
    while n4.id in n2.links.peers:
        world.run(1)
    commit_at(n2, join(n4))
    assert world.run_until(DONE_MS, lambda: settled(world)() and world.at_peace()), unfinished(world)


def test_nobody_lets_itself_go_unheard() -> None:
    """Else those who come back wait for ever for one that has left by a layout that they do not know."""
    world = World(1, 2)
    world.start()
    n1, n2 = world.hosts
    assert world.run_until(5000, world.at_peace)
    n1.kill()
    world.run(10_000)
    commit_at(n2, leave(n2))
    world.run(10_000)
    assert n2.running.state.layout is not None
    n1.start()
    assert world.run_until(DONE_MS, settled(world)), unfinished(world)
    assert members_of(world) == [n1]


def test_a_second_attempt_that_meets_a_node_without_a_layout_tells_that_the_first_may_have_written() -> None:
    asker = _Asker()
    SecondAttempt(asker).answer(1, has_left("n1", 7))
    assert asker.reply.startswith(b"-ERR node n1 has left its cluster at epoch 7")
    assert b"outcome=maybe-written" in asker.reply
    assert asker.reply.endswith(b"written it before\r\n")
