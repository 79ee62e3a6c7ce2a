"""A node without room on its disk costs no write: others coordinate, and hints are kept for it until it has room."""

from __future__ import annotations

import pytest

from protocol.slots import key_slot
from server.core.base.room import FOR_NOTHING
from server.core.records import versions
from server.core.records.records import RECORDS_END
from tests.sim.clients import Operation
from tests.sim.host import Host
from tests.sim.seeds import seeds
from tests.sim.world import World


def _write_through_all(world: World, hosts: list[Host], rounds: int, name: bytes) -> list[Operation]:
    """SETs, conditional SETs and DELs of new keys through each host, one after the other, all the time."""
    operations: list[Operation] = []
    for number in range(rounds):
        for host in hosts:
            key = b"%b-%d-%b" % (name, number, host.member.name.encode())
            client = world.client(host)
            operations += client.send(
                [b"SET", key, b"value"],
                [b"SET", key, b"value"],
                [b"SET", key + b"nx", b"value", b"NX"],
                [b"DYN.SET", key + b"dyn", b"value"],
                [b"SET", key + b"del", b"value"],
                [b"DEL", key + b"del"],
            )
        world.run(3)
    world.run(2000)
    return operations


def _whole(world: World) -> bool:
    return world.at_peace() and not world.differences()


def _values_on(host: Host) -> int:
    """How many records with a value lie on a disk."""
    return sum(not versions.is_dead(record, 0) for key, record in host.disk.data.items() if key < RECORDS_END)


def _errors(operations: list[Operation]) -> list[Operation]:
    return [operation for operation in operations if operation.error or not operation.answered]


@pytest.mark.parametrize("nodes", [3, 5])
@pytest.mark.parametrize("full", [0, 1, 2])
def test_a_full_disk_costs_no_write_and_is_filled_up_when_there_is_room(nodes: int, full: int) -> None:
    world = World(nodes + full, nodes)
    world.start()
    cramped = world.hosts[full]
    world.fill(cramped, True)
    world.run(100)
    stored = _values_on(cramped)
    operations = _write_through_all(world, world.hosts, 30, b"k")
    assert not _errors(operations)
    assert _values_on(cramped) == stored, "nothing but tombstones was written there"
    for operation in operations[:: len(operations) // 20]:
        expected = None if operation.args[1].endswith(b"del") else b"value"
        for host in world.hosts:
            assert world.ask(host, "GET", operation.args[1]).reply == expected, "reads go through it as ever"
    world.fill(cramped, False)
    assert world.run_until(30_000, lambda: _whole(world))
    assert _values_on(cramped) > stored


@pytest.mark.parametrize("seed", seeds(3, 12))
def test_nobody_notices_that_a_disk_fills_up(seed: int) -> None:
    """Relays on their way there go on, and whoever relayed from there asks again."""
    world = World(seed, 3 + seed % 3)
    world.start()
    cramped = world.hosts[seed % 3]
    world.events.after(100, lambda: world.fill(cramped, True))
    world.events.after(250, lambda: world.fill(cramped, False))
    operations = _write_through_all(world, world.hosts, 150, b"k")
    plain = [operation for operation in operations if b"NX" not in operation.args and operation.name != "DEL"]
    assert not _errors(plain)
    assert all("DISKFULL" in operation.error for operation in _errors(operations)), "caught between reading and writing"
    assert world.run_until(30_000, lambda: _whole(world))


def test_a_node_that_comes_back_with_a_full_disk_says_so_again() -> None:
    world = World(1, 3)
    world.start()
    cramped = world.hosts[1]
    world.fill(cramped, True)
    world.run(100)
    cramped.kill()
    world.run(3000)
    cramped.start()
    assert world.run_until(10_000, world.at_peace)
    assert not _errors(_write_through_all(world, world.hosts, 10, b"k"))
    cramped.kill()
    world.fill(cramped, False)
    world.run(3000)
    cramped.start()
    assert world.run_until(30_000, lambda: _whole(world))
    key = world.key_of(cramped)
    assert world.ask(world.hosts[0], "SET", key, "v").reply == b"OK"
    assert cramped.running.state.statistics.writes == 1, "and that there is room again"


@pytest.mark.parametrize("place", [1, 2])
def test_a_stand_in_for_a_full_owner_is_in_no_quorum_that_reads_may_miss(place: int) -> None:
    """The owner with room is slow, a fallback is not, and whoever reads hears of the full one and the slow one first."""
    world = World(2, 5)
    world.start()
    first, *others = world.hosts[:3]
    cramped, slow = others if place == 1 else others[::-1]
    key = world.key_of(first, *others)
    world.fill(cramped, True)
    world.run(100)
    for path in ((first.id, slow.id), (first.id, cramped.id)):
        weather = world.network.path(*path)
        weather.delay_ms_min = weather.delay_ms_max = 300
    assert world.ask(first, "SET", key, "new").reply == b"OK"
    assert world.ask(cramped, "GET", key).reply == b"new"


def test_a_fallback_without_room_is_passed_over() -> None:
    world = World(1, 5)
    world.start()
    owners = world.hosts[:3]
    key = world.key_of(*owners)
    preferred = world.layout.preference_list(world.layout.partition_of(key_slot(key)))
    full, other = (world.host(node) for node in preferred[3:])
    world.fill(full, True)
    world.run(100)
    owners[2].freeze()
    assert not world.ask(owners[0], "DYN.SET", key, "v", "W", 3).error
    assert world.stored(other, key)


def test_where_too_few_have_room_the_error_names_the_others() -> None:
    world = World(1, 3)
    world.start()
    n1, n2, n3 = world.hosts
    world.fill(n1, True)
    world.fill(n3, True)
    world.run(100)
    for host in world.hosts:
        operation = world.ask(host, "SET", "k", "v")
        assert operation.error.startswith("DISKFULL write: got=1 wanted=2 hinted=0 outcome=unwritten")
        assert "there is no room on n1, n3" in operation.error
        assert "free some disk space there" in operation.error
        assert not world.ask(host, "DYN.SET", "k", "v", "W", "1").error, "one node with room is enough"
        assert world.ask(host, "DYN.GET", "k", "R", 3).reply[1]  # type: ignore[index]
    world.fill(n2, True)
    world.run(100)
    for host in world.hosts:
        error = world.ask(host, "DYN.SET", "k", "v", "W", "1").error
        assert error.startswith("DISKFULL write: got=0 wanted=1 hinted=0 outcome=unwritten")
        assert all(node.member.name in error for node in world.hosts), "it names all of them"


def test_where_no_owner_has_room_a_fallback_takes_the_write() -> None:
    world = World(1, 4)
    world.start()
    owners = world.hosts[:3]
    key = world.key_of(*owners)
    for owner in owners:
        world.fill(owner, True)
    world.run(100)
    for host in world.hosts:
        assert not world.ask(host, "DYN.SET", key, "v", "W", "1").error
    for owner in owners:
        world.fill(owner, False)
    assert world.run_until(30_000, lambda: _whole(world))
    assert all(world.stored(owner, key) for owner in owners)


@pytest.mark.parametrize("seed", range(6))
def test_full_disks_take_deletions_and_collect_what_was_deleted(seed: int) -> None:
    """All disks have room for deletions only: every kind of deletion is taken through every node, and ends in nothing."""
    world = World(seed, 3 + seed % 3)
    world.start()
    keys = [b"k%d" % number for number in range(60)]
    for key in keys:
        assert world.ask(world.hosts[0], "SET", key, "value").reply == b"OK"
    for host in world.hosts:
        world.fill(host, True)
    world.run(100)
    commands = ([b"DEL"], [b"UNLINK"], [b"GETDEL"], [b"EXPIRE", b"-1"], [b"PEXPIREAT", b"1"], [b"DYN.DEL"])
    for number, key in enumerate(keys):
        name, *rest = commands[number % len(commands)]
        host = world.hosts[number % len(world.hosts)]
        context = [b"CONTEXT", world.ask(host, "DYN.GET", key).reply[0]] if name == b"DYN.DEL" else []  # type: ignore[index]
        assert not world.ask(host, name, key, *rest, *context).error
        assert world.ask(host, "GET", key).reply is None
        for refused in (("SET", key, "v"), ("EXPIRE", keys[-1], "100"), ("DYN.SET", key, "v")):
            operation = world.ask(host, *refused)
            assert operation.error.startswith("DISKFULL") or operation.reply == 0
    assert world.run_until(60_000, lambda: all(host.disk.count() == 0 for host in world.hosts)), "collected"
    for host in world.hosts:
        world.fill(host, False)
    assert world.run_until(30_000, lambda: _whole(world))


def test_a_flushall_frees_full_disks() -> None:
    world = World(3, 3)
    world.start()
    for number in range(50):
        world.ask(world.hosts[0], "SET", f"k{number}", "value")
    for host in world.hosts:
        world.fill(host, True)
    world.run(100)
    assert world.ask(world.hosts[1], "FLUSHALL", "CONFIRM").reply == b"OK"
    assert world.run_until(60_000, lambda: all(host.disk.count() == 0 for host in world.hosts))


def test_a_deletion_with_a_context_keeps_the_other_siblings_on_full_disks() -> None:
    world = World(5, 3)
    world.start()
    host = world.hosts[0]
    world.ask(host, "DYN.SET", "k", "one")
    context = world.ask(host, "DYN.GET", "k").reply[0]  # type: ignore[index]
    world.ask(host, "DYN.SET", "k", "two")
    for full in world.hosts:
        world.fill(full, True)
    world.run(100)
    answer = world.ask(host, "DYN.DEL", "k", "CONTEXT", context)
    assert not answer.error
    assert answer.reply[1:] == [3, 0] or answer.reply[1:] == [2, 0]  # type: ignore[index]
    assert world.ask(host, "DYN.GET", "k", "R", 3).reply[1] == [b"two"]  # type: ignore[index]


def test_a_deletion_goes_where_there_is_room_for_it() -> None:
    """One node has room for nothing: the others take the deletion, and a hint is kept; with all so, it is refused."""
    world = World(1, 3)
    world.start()
    for number in range(30):
        world.ask(world.hosts[0], "SET", f"k{number}", "value")
    world.fill(world.hosts[0], True, FOR_NOTHING)
    for host in world.hosts[1:]:
        world.fill(host, True)
    world.run(100)
    stored = dict(world.hosts[0].disk.data)
    for number in range(15):
        for host in world.hosts:
            assert not world.ask(host, "DEL", f"k{number}").error
    assert dict(world.hosts[0].disk.data) == stored, "nothing was written there"
    for host in world.hosts:
        world.fill(host, True, FOR_NOTHING)
    world.run(100)
    for host in world.hosts:
        assert world.ask(host, "DEL", "k20").error.startswith("DISKFULL write: got=0")
        assert world.ask(host, "GET", "k20").reply == b"value"
    for host in world.hosts:
        world.fill(host, False)
    assert world.run_until(60_000, lambda: all(host.disk.count() == 15 for host in world.hosts))
    assert _whole(world)


@pytest.mark.parametrize("seed", seeds(2, 4))
def test_a_node_that_only_reads_writes_nothing_at_all(seed: int) -> None:
    """Not for minutes, whatever the others do: hints, staging and a new layout for it wait."""
    world = World(seed, 4)
    world.start()
    cramped = world.hosts[seed]
    for number in range(40):
        world.ask(world.hosts[0], "SET", f"k{number}", "value")
    world.fill(cramped, True, FOR_NOTHING)
    world.run(100)
    stored = dict(cramped.disk.data)
    for number in range(40):
        for host in world.hosts:
            assert not world.ask(host, "SET", f"k{number}", "newer").error
            assert world.ask(cramped, "GET", f"k{number}").reply == b"newer"
        world.ask(world.hosts[number % 4], "DEL", f"k{number}" if number % 3 == 0 else "none")
    world.run(120_000)
    assert dict(cramped.disk.data) == stored
    world.fill(cramped, False)
    assert world.run_until(120_000, lambda: _whole(world))
