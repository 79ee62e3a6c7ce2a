"""One rule for the unexpected, on whole clusters: each procedure, each command at its coordinator, and storms of faults."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from server.core.base.unexpected import Fatal, PlantedFault
from server.core.commands.spec import ALONE, CommandSpec
from server.core.operators.status import own_status
from server.core.operators.troubles import held_back
from server.core.records import versions
from server.core.records.records import Records, storage_key_of
from server.core.records.versions import DamagedRecord
from server.core.ring.change import ZONE
from server.core.ring.layout import Layout
from tests.core.unexpected.test_commands import line_of
from tests.faults import broken_handler, commands, procedures
from tests.sim.changes import change, commit_at
from tests.sim.host import Host
from tests.sim.runs import Profile, config, run
from tests.sim.seeds import seeds
from tests.sim.world import World

KEYS = [b"k%d" % number for number in range(40)]
CLIENTS = ("command", "parts", "reply of a pop")  # procedures that a client waits for
STRUCK_MS, WHOLE_MS = 70_000, 60_000
DEATHS_MAX = 6  # STORE, ASK ABSORB and ASK MERGE once each, and the procedures that fetch a record twice


def three() -> World:
    """Three nodes that hold a few keys."""
    world = World(1, 3, config())
    world.start()
    operations = world.client(world.hosts[0]).send(*[[b"SET", key, b"v"] for key in KEYS])
    assert world.run_until(5000, lambda: all(operation.reply == b"OK" for operation in operations))
    return world


# What makes a procedure come by at the first host, where waiting is not enough.


def _owe_without_return(world: World, host: Host, owner: Host) -> None:
    owner.kill()
    assert world.ask(host, "SET", world.key_of(host, owner), "owed").reply == b"OK"


def _owe(world: World, host: Host) -> None:
    _owe_without_return(world, host, world.hosts[1])
    world.hosts[1].start()


def _review(world: World, host: Host) -> None:
    _owe_without_return(world, host, world.hosts[1])
    host.running.services.hint_replay.review()
    world.run(500)
    world.hosts[1].start()


def _damage(world: World, host: Host) -> None:
    key = next(key for key in KEYS if world.owners(key)[0] is host)
    record = world.stored(host, key)
    assert record is not None
    host.disk.damage(storage_key_of(key), record[:-1] + b"?")
    host.running.state.records.cache.clear()
    world.client(host).send([b"GET", key])


def _checkpoint(world: World, host: Host) -> None:
    host.running.state.records.folded.overdue[storage_key_of(KEYS[0])] = None


def _repair(world: World, host: Host) -> None:
    world.client(host).send([b"DYN.REPAIR", b"START"])


def _clear(world: World, host: Host) -> None:
    node = host.running
    host.deliver("hand", lambda: node.services.background.run_to_end("clearing", node.services.membership._clear))


def _change_zone(world: World, host: Host) -> None:
    commit_at(host, replace(change(ZONE, world.hosts[2]), zone=f"z{world.events.now_ms}"))


def _enter(world: World, host: Host) -> None:
    membership, layout = host.running.services.membership, host.running.state.layout
    assert layout is not None
    host.deliver(
        "hand",
        lambda: membership._background.run("layout entry", membership._enter_first(Layout.decode(layout.encode()))),
    )


def _send(*lines: list[bytes]) -> Callable[[World, Host], None]:
    return lambda world, host: _call(world, host, [[word % world.key_of(host) if b"%b" in word else word for word in line]
                                                   for line in lines])  # fmt: skip


def _call(world: World, host: Host, lines: list[list[bytes]]) -> None:
    world.client(host, "caller").send(*lines)


def _nothing(world: World, host: Host) -> None:
    """It comes by all the time."""


TRIGGERS: dict[str, Callable[[World, Host], None]] = {
    "collection": _nothing,
    "cleanup": _nothing,
    "change coordinator": _nothing,
    "transfers": _nothing,
    "transfer samples": _nothing,
    "anti-entropy": _nothing,
    "scrub": _nothing,
    "rebuild": _nothing,
    "hint review": _review,
    "hint replay": _owe,
    "filling": _nothing,
    "filling samples": _nothing,
    "full repair": _nothing,
    "mending": _damage,
    "checkpoints": _checkpoint,
    "repair task": _repair,
    "repair drive": _repair,
    "repair job": _repair,
    "verification": _repair,
    "repair job watch": _repair,
    "shutdown": lambda world, host: host.deliver("operator", host.running.services.shutdown.begin),
    "clearing": _clear,
    "layout entry": _enter,
    "layout merge": lambda world, host: _change_zone(world, world.hosts[1]),
    "layout publication": _change_zone,
    "command": _send([b"SET", b"%b", b"v", b"NX"]),
    "reply of a pop": _send([b"ZADD", b"z", b"1", b"a"], [b"BZMPOP", b"0", b"1", b"z", b"MIN"]),
    "parts": _send([b"MSET", *[b"m%d" % (number // 2) for number in range(500)]]),
}
NAMES = [place.removeprefix("procedure ") for place in procedures()]


def strike(world: World, name: str, error: Exception | None = None) -> Host:
    """Breaks a procedure at the first host, and waits until it has come by there."""
    host = world.hosts[0]
    place = f"procedure {name}"
    planted = host.running.state.unexpected.planted
    host.running.state.unexpected.plant(place, error)
    TRIGGERS[name](world, host)
    assert world.run_until(STRUCK_MS, lambda: place not in planted), f"{name} does not come by"
    return host


def is_whole(world: World) -> bool:
    return world.at_peace() and not world.differences()


@pytest.mark.parametrize("name", NAMES)
def test_a_fault_in_a_procedure_ends_the_node_and_started_again_it_is_whole(name: str) -> None:
    world = three()
    host = strike(world, name)
    world.run(5000)
    assert world.run_until(WHOLE_MS, lambda: is_whole(world))
    assert all(world.ask(other, "GET", key).reply is not None for other in world.hosts for key in KEYS[:8])
    mine = [operation for operation in world.history.operations if operation.client == "caller"]
    assert all(operation.answered for operation in mine) and not world.history.stray_replies
    if name in CLIENTS:
        assert not host.crashes and host.running.state.statistics.internal_errors == 1
        assert any("ERR internal error" in operation.error for operation in mine)
    else:
        (error,) = host.crashes
        assert isinstance(error, Fatal) and f"procedure {name} has failed" in str(error)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in CLIENTS])
def test_an_expected_error_of_a_procedure_is_shown_and_it_begins_again(name: str) -> None:
    world = three()
    host = strike(world, name, DamagedRecord("this record is damaged"))
    status = json.loads(world.ask(host, "DYN.CLUSTER", "STATUS").reply)
    assert not host.crashes and host.running.state.statistics.procedure_errors == 1
    assert status["nodes"][0]["failing"] == {name: {"errors": 1, "error": "ERR this record is damaged"}}
    assert f"n1: {name} has met 1 errors and begins again" in status["summary"] and status["verdict"] == "degraded"
    world.run(3000)
    assert strike(world, name, DamagedRecord("again")) is host, "it comes by again"
    assert world.run_until(WHOLE_MS, lambda: is_whole(world))
    world.run(130_000)
    assert "failing" not in json.loads(world.ask(host, "DYN.CLUSTER", "STATUS").reply)["nodes"][0]


@pytest.mark.parametrize("name", ["repair task", "repair drive", "repair job", "repair job watch"])
def test_a_repair_that_meets_an_error_comes_to_an_end(name: str) -> None:
    world = three()
    host = strike(world, name, DamagedRecord("damaged"))
    assert world.run_until(WHOLE_MS, lambda: [task["state"] for task in _tasks(world, host)] == ["done"])


def _tasks(world: World, host: Host) -> list[dict[str, object]]:
    tasks: list[dict[str, object]] = json.loads(world.ask(host, "DYN.TASK", "LIST").reply)["tasks"]
    return tasks


def test_every_procedure_has_its_trigger() -> None:
    assert sorted(NAMES) == sorted(TRIGGERS)


@pytest.mark.parametrize(
    "spec", [spec for spec in commands() if spec.has_keys() and spec.overlap != ALONE], ids=lambda spec: spec.name
)
def test_a_command_that_fails_at_its_coordinator_is_answered_through_the_relay(spec: CommandSpec) -> None:
    """In order, once, and the commands that travel with it have their own answers."""
    world = World(1, 3, config())
    world.start()
    n1, n2, _ = world.hosts
    key = world.key_of(n1)
    line = [key if word == "k" else word.encode() for word in line_of(spec).split()]
    with broken_handler(spec, n1.running) as struck:
        operations = world.client(n2).send([b"SET", b"a", b"1"], line, [b"GET", b"a"], [b"ECHO", b"last"])
        others = world.client(n2).send([b"SET", b"b", b"2"], [b"GET", b"b"])
        assert world.run_until(5000, lambda: all(operation.answered for operation in operations + others))
    assert [operation.reply for operation in (operations[0], *operations[2:], *others)] == [
        b"OK", b"1", b"last", b"OK", b"2",
    ]  # fmt: skip
    if struck:  # a read may be run at the node that was asked
        assert "ERR internal error" in operations[1].error and "the log of node n1" in operations[1].error
        assert n1.running.state.statistics.internal_errors == 1
    assert struck or not n1.running.state.statistics.internal_errors
    assert not any(host.crashes for host in world.hosts)


def test_a_reply_that_fails_costs_its_own_command_and_none_of_its_group(monkeypatch: pytest.MonkeyPatch) -> None:
    world = three()
    value_of = versions.value_of

    def fails(record: bytes, now_ms: int) -> bytes | None:
        value = value_of(record, now_ms)
        assert value != b"poison"
        return value

    monkeypatch.setattr(versions, "value_of", fails)
    host = world.hosts[1]
    assert world.ask(host, "SET", "k7", "poison").reply == b"OK"
    replies = [world.client(host).send(*[[b"GET", key] for key in KEYS]) for _ in range(2)]
    assert world.run_until(5000, lambda: all(operation.answered for group in replies for operation in group))
    for group in replies:
        errors = [operation.args[1] for operation in group if "ERR internal error" in operation.error]
        assert errors == [b"k7"] and [operation.reply for operation in group].count(b"v") == len(KEYS) - 1
    assert not any(host.crashes for host in world.hosts)


def test_a_record_that_cannot_be_read_costs_its_own_read_and_none_of_its_group(monkeypatch: pytest.MonkeyPatch) -> None:
    """The group is begun one by one; and a replica that meets the record refuses the question, and lives."""
    world = three()
    host = world.hosts[0]
    verify = versions.verify

    def fails(record: bytes) -> bool:
        assert not record.endswith(b"poison")
        return verify(record)

    assert world.ask(host, "SET", "k7", "poison").reply == b"OK"
    world.run(100)
    monkeypatch.setattr(versions, "verify", fails)
    for each in world.hosts:
        each.running.state.records.cache.clear()
    operations = world.client(host).send(*[[b"GET", key] for key in KEYS])
    assert world.run_until(5000, lambda: all(operation.answered for operation in operations))
    assert [operation.args[1] for operation in operations if operation.error] == [b"k7"]
    assert not any(host.crashes for host in world.hosts)


def _status(host: Host) -> str:
    services = host.running.services
    report = {host.id: own_status(services)}
    layout = host.running.state.layout
    assert layout is not None
    return "; ".join(held_back(layout, report))


def test_one_message_does_not_end_a_node_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """It comes as a STORE, as a hint, and in repairs, which other nodes lead and which the node leads itself."""
    world = three()
    victim, merge_all = world.hosts[1], Records.merge_all
    key = world.key_of(world.hosts[0])

    def fails(self: Records, pairs: list[bytes]) -> None:
        merge_all(self, pairs)
        is_victim = victim.node is not None and self is victim.node.state.records
        if is_victim and any(item.endswith(b"poison") for item in pairs):
            raise PlantedFault("after something was stored")

    monkeypatch.setattr(Records, "merge_all", fails)
    assert world.ask(world.hosts[0], "SET", key, "poison").reply == b"OK"
    world.run(40_000)
    assert 1 <= len(victim.crashes) <= DEATHS_MAX, [str(crash) for crash in victim.crashes]
    assert world.stored(victim, key) is None and victim.node is not None
    assert "holds back" in _status(victim)
    assert world.ask(world.hosts[0], "SET", KEYS[0], "sound").reply == b"OK"
    assert world.run_until(5000, lambda: (world.stored(victim, KEYS[0]) or b"").endswith(b"sound")), "others are stored"
    monkeypatch.undo()
    assert world.run_until(300_000, lambda: (world.stored(victim, key) or b"").endswith(b"poison"))


POISON_LINES = {
    "a plain write": [b"SET", b"%b", b"poison"],
    "a command that decides on what it reads": [b"HSET", b"%b", b"field", b"poison"],
    "a command of several steps": [b"SET", b"%b", b"poison", b"NX"],
    "a part of a command over several keys": [b"MSET", b"%b", b"poison", b"other", b"sound"],
}


@pytest.fixture
def poisonous(monkeypatch: pytest.MonkeyPatch) -> list[Host]:
    """Makes each coordinator that stores the value "poison" raise afterwards."""
    put = Records.put

    def fails(self: Records, storage_key: bytes, record: bytes, old: bytes | None) -> None:
        put(self, storage_key, record, old)
        if b"poison" in record:
            raise PlantedFault("after something was stored")

    monkeypatch.setattr(Records, "put", fails)
    return []


@pytest.mark.usefixtures("poisonous")
@pytest.mark.parametrize("relayed", [True, False], ids=["relayed", "asked for at its coordinator"])
@pytest.mark.parametrize("what", POISON_LINES)
def test_a_command_that_ends_its_coordinator_ends_no_other_node(what: str, relayed: bool) -> None:
    """The node that relays it does not send it to the next owner, and no node runs it when its client tries again."""
    world = three()
    first, second, third = world.hosts
    key = b"new-key" if b"NX" in POISON_LINES[what] else world.key_of(first)
    line = [word.replace(b"%b", key) for word in POISON_LINES[what]]
    coordinator = world.owners(key)[0]
    other = next(host for host in world.hosts if host is not coordinator)
    for asked in (other, second, third, first, other) if relayed else (coordinator, second, third, first):
        world.client(asked).send(line)
        world.run(4000)
    assert [len(host.crashes) for host in world.hosts] == [int(host is coordinator) for host in world.hosts]
    (refused,) = world.client(coordinator).send(line)
    assert world.run_until(5000, lambda: refused.answered)
    assert "refuses this command for a while: it has ended a node" in refused.error, refused.error
    assert f"holds back command {line[0].decode().removeprefix('M')} " in _status(coordinator)
    assert world.ask(other, *(word.replace(b"poison", b"sound").decode() for word in line)).error == "", "others run"


@pytest.mark.usefixtures("poisonous")
def test_commands_relayed_with_one_that_ends_the_coordinator_are_run_elsewhere() -> None:
    world = three()
    first, second = world.hosts[0], world.hosts[1]
    keys = [key for key in KEYS if world.owners(key)[0] is first][:4]
    lines = [[b"SET", key, b"poison" if number == 1 else b"sound"] for number, key in enumerate(keys)]
    operations = world.client(second).send(*lines)
    assert world.run_until(5000, lambda: all(operation.answered for operation in operations))
    assert [bool(operation.error) for operation in operations] == [number == 1 for number in range(len(keys))]
    assert "maybe-written" in operations[1].error and [len(host.crashes) for host in world.hosts] == [1, 0, 0]


@pytest.mark.usefixtures("poisonous")
def test_the_node_that_relays_does_not_ask_an_owner_that_has_not_got_the_poison() -> None:
    world = three()
    first, second, third = world.hosts
    key = next(key for key in KEYS if world.owners(key) == [first, third, second])
    world.network.cut(first.id, third.id)
    (operation,) = world.client(second).send([b"SET", key, b"poison"])
    assert world.run_until(5000, lambda: operation.answered)
    assert "refuses this command" in operation.error and "maybe-written" in operation.error
    assert [len(host.crashes) for host in world.hosts] == [1, 0, 0]


def test_a_coordinator_that_is_killed_leaves_its_commands_to_the_next_owner() -> None:
    """It has sent no POISON."""
    world = three()
    first, second = world.hosts[0], world.hosts[1]
    operations = world.client(second).send(*[[b"SET", key, b"w"] for key in KEYS if world.owners(key)[0] is first])
    world.run(1)
    first.kill()
    assert world.run_until(5000, lambda: all(operation.reply == b"OK" for operation in operations))


STORMS = (
    (),
    ("kill", "crash"),
    ("isolate", "cut"),
    ("datagrams", "slow path"),
    ("damaged record", "freeze"),
    ("outage",),
)


@pytest.mark.parametrize("seed", seeds(6, 12))
def test_no_promise_is_broken_by_faults_of_our_own(seed: int) -> None:
    faults = ("planted fault", *STORMS[seed % len(STORMS)])
    ring = ("join", "leave") if seed % 4 == 3 else ()
    profile = Profile(3 + seed % 3, 4, 5, faults, 200, 6000, config(), collects=False, ring=ring)
    verdict = run(seed, profile)
    assert not verdict.faults, "\n".join(verdict.faults[:5])
