"""A disk that is set back to an older copy: what was deleted since stays deleted (P7), and no crash is taken for that."""

from __future__ import annotations

from dataclasses import replace

import pytest

from server.core.membership.rollback import MARK_MS, SAVE_MS
from tests.sim.host import Host
from tests.sim.resurrection import HASTY, came_back, left_over
from tests.sim.world import World

KEYS = [f"key{number}" for number in range(30)]


class Directory:
    """A world whose first node has a copy of its disk from before keys were deleted, and collected."""

    def __init__(self, nodes: int = 3, seed: int = 1) -> None:
        self.world = World(seed, nodes, replace(HASTY, fsync="everysec"))
        self.set_aside: list[str] = []
        for host in self.world.hosts:
            host.on_set_aside = self._note
        self.world.start()
        self.host = self.world.hosts[0]
        for key in [*KEYS, "kept"]:
            assert self.world.ask(self.world.hosts[1], "SET", key, "old").reply == b"OK"
        self.world.run(2 * MARK_MS)
        self.copies = {host.id: host.disk.copy() for host in self.world.hosts}

    def _note(self, host: Host) -> None:
        self.set_aside.append(host.id)
        self.world.wipe(host)

    def delete(self) -> None:
        """Deletes the keys at another node, and waits until they are forgotten."""
        for key in KEYS:
            assert self.world.ask(self.world.hosts[1], "DEL", key).reply == 1
        assert self.world.run_until(60_000, lambda: not left_over(self.world)), left_over(self.world)
        self.world.run(MARK_MS + SAVE_MS + 1000)

    def set_back(self, *hosts: Host) -> None:
        """Older copies take the place of what is on these disks; their nodes are started again."""
        for host in hosts:
            if host.node is not None:
                host.kill()
            self.world.roll_back(host, self.copies[host.id])
        for host in hosts:
            host.start()

    def assert_whole(self) -> None:
        """All nodes are up and equal, and the deleted keys are gone, wherever and however they are asked for."""
        world = self.world
        assert world.run_until(20_000, lambda: world.at_peace() and not world.differences()), world.differences()
        for host in world.hosts:
            for quorum in (1, 2, 3):
                for key in KEYS:
                    assert world.ask(host, "DYN.GET", key, "R", quorum).reply[1] == [], key
            assert world.ask(host, "GET", "kept").reply == b"old"
        assert not came_back(world)

    def status(self, host: Host) -> str:
        """What `dyn cluster status` says there."""
        return str(self.world.ask(host, "DYN.CLUSTER", "STATUS").reply)


def test_what_was_deleted_since_stays_deleted_and_the_node_is_filled_anew() -> None:
    directory = Directory()
    actor = directory.host.running.state.actor
    directory.delete()
    directory.set_back(directory.host)
    assert directory.world.run_until(20_000, lambda: directory.set_aside == [directory.host.id])
    directory.assert_whole()
    assert directory.host.running.state.actor != actor
    summary = directory.status(directory.world.hosts[1])
    assert "n1 came back with an older copy of its directory: that is now data.set-back-1 there" in summary
    directory.host.kill()
    directory.host.start()
    assert directory.world.run_until(20_000, directory.world.at_peace)
    assert len(directory.set_aside) == 1, "it is as any other node now"


def test_a_copy_that_ran_by_itself_first_is_found_out_too() -> None:
    directory = Directory()
    directory.delete()
    paths = [path for other in directory.world.hosts[1:] for path in
             ((directory.host.id, other.id), (other.id, directory.host.id))]  # fmt: skip
    for path in paths:
        directory.world.network.cut(*path)
    directory.set_back(directory.host)
    for _ in range(3):
        directory.world.run(8000)
        directory.world.ask(directory.host, "DYN.SET", "alone", "value", "W", 1)
        directory.world.run(3 * MARK_MS)
        directory.host.kill()
        directory.host.start()
    for path in paths:
        directory.world.network.mend(*path)
    assert directory.world.run_until(20_000, lambda: bool(directory.set_aside))
    directory.assert_whole()


def test_marks_outlive_a_stop_of_the_whole_cluster() -> None:
    directory = Directory()
    directory.delete()
    for host in directory.world.hosts:
        host.kill()
    directory.set_back(directory.host)
    for host in directory.world.hosts[1:]:
        host.start()
    assert directory.world.run_until(20_000, lambda: bool(directory.set_aside))
    directory.assert_whole()


def test_a_node_that_has_gone_back_waits_while_another_one_is_missing() -> None:
    directory = Directory()
    directory.delete()
    missing = directory.world.hosts[2]
    missing.kill()
    directory.set_back(directory.host)
    directory.world.run(15_000)
    assert not directory.set_aside
    refusal = directory.world.ask(directory.host, "SET", "other", "value").reply
    assert "CLUSTERDOWN node n1 runs on an older copy of its directory" in str(refusal)
    status = directory.status(directory.world.hosts[1])
    assert "n1 came back with an older copy of its directory and is refused" in status
    missing.start()
    assert directory.world.run_until(20_000, lambda: bool(directory.set_aside))
    directory.assert_whole()


def test_several_that_have_gone_back_are_taken_as_they_are_for_nobody_else_may_have_their_records() -> None:
    directory = Directory()
    directory.delete()
    directory.set_back(*directory.world.hosts[:2])
    assert directory.world.run_until(20_000, directory.world.at_peace)
    assert not directory.set_aside
    status = directory.status(directory.world.hosts[2])
    assert "n1, n2 came back with older copies of their directories, several at once" in status


def test_a_cluster_that_is_restored_from_copies_of_different_moments_comes_up_whole() -> None:
    directory = Directory()
    for number, host in enumerate(directory.world.hosts):
        directory.copies[host.id] = host.disk.copy()
        directory.world.ask(host, "SET", f"between{number}", "value")
        directory.world.run(3 * MARK_MS + SAVE_MS)
    directory.set_back(*directory.world.hosts)
    world = directory.world
    assert world.run_until(20_000, lambda: world.at_peace() and not world.differences())
    assert not directory.set_aside
    assert world.ask(directory.host, "GET", "kept").reply == b"old"


@pytest.mark.parametrize("fsync", ["everysec", "no", "always"])
@pytest.mark.parametrize("seed", range(3))
def test_no_crash_is_taken_for_a_directory_that_was_set_back(seed: int, fsync: str) -> None:
    world = World(seed, 3, replace(HASTY, fsync=fsync))
    set_aside: list[str] = []
    for host in world.hosts:
        host.on_set_aside = lambda host: set_aside.append(host.id)
    world.start()
    for number in range(12):
        host = world.rng.choice(world.hosts)
        for key in range(10):
            world.ask(world.rng.choice(world.hosts), "SET", f"key{key}", number)
        world.run(world.rng.randint(0, 3000))
        if world.rng.random() < 0.5:
            world.lose_power(host)
        else:
            host.kill()
        world.run(world.rng.randint(0, 500))
        host.start()
        assert world.run_until(20_000, world.at_peace)
    assert not set_aside
    marks = [known.mark for host in world.hosts for known in host.running.services.rollback._peers.values()]
    assert fsync == "no" or (len(marks) == 6 and all(marks)), "nothing would have been found out"


def test_a_wiped_disk_is_none_that_was_set_back() -> None:
    directory = Directory()
    directory.delete()
    directory.host.kill()
    directory.world.wipe(directory.host)
    directory.host.start()
    directory.assert_whole()
    directory.world.run(3 * MARK_MS)
    assert not directory.set_aside
    directory.set_back(directory.host)
    assert directory.world.run_until(20_000, lambda: bool(directory.set_aside)), "a copy from before the wipe is one"
    directory.assert_whole()
