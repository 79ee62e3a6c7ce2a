"""Counters, hashes, sets and sorted sets in storms: clients that never repeat a command, and what must be there in the end.

Theory. What the history says of each key bounds what the cluster may show once it is whole:

    counter    at least the sum of what was acknowledged; at most that and the sum of what has an unknown outcome
    hash       a field that nobody removes is there if some write of it was acknowledged; its value is one that was written
    set        an element that nobody removes is there if some add of it was acknowledged; each was added by somebody
    sorted     a member that nobody removes is there if some ZADD of it was acknowledged; its score is one that was written.
    set        A member that is only added to has a score with the bounds of a counter.
    sketch     (HyperLogLog) what was acknowledged is in it: to add it again changes no register. Nothing else is in it.
    expiry     a field with an acknowledged expiry has one, and it is one that was asked for
    removed    what is removed once the cluster is whole is gone, and does not come back when nodes are lost and found again

All nodes show the same. Faults that destroy disks are left out: what they may lose is for the other checkers
(checkers.py), as everything about records is: hints, quorums, convergence.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from server.core.formats import hyperloglog
from tests.sim.clients import Operation
from tests.sim.faults import FAULTS, Storm
from tests.sim.runs import CONVERGE_MS_MAX, HEAL_MS_MAX, SKEW_MS_MAX, Profile, config
from tests.sim.workload import Customer
from tests.sim.world import World

DESTROYING = ("power loss", "wipe", "rollback", "damaged record", "damage", "full disk", "wrong clock")
HARMLESS = tuple(sorted(name for name in FAULTS if name not in DESTROYING))
KEYS = (b"c0", b"c1", b"h0", b"s0", b"n0", b"z0", b"p0", b"e0")
PADDING = b"." * 80  # a field is long beside what else changes in a record, so that a patch is worth it
FAR_MS = 5_000_000_000_000  # since 1970; nothing expires in a storm
LASTING = tuple(b"k%d" % number + PADDING for number in range(2))
REMOVALS = ((b"HDEL", b"h0"), (b"SREM", b"s0"), (b"ZREM", b"z0"))
_KEPT = b"k0" + PADDING
LONE_WRITES = ([b"HSET", b"h0", _KEPT, b"lone"], [b"SADD", b"s0", _KEPT], [b"ZADD", b"z0", b"1", _KEPT])
REMOVABLE = tuple(b"r%d" % number + PADDING for number in range(4))
_UNWRITTEN = ("outcome=unwritten", "outcome=unread", "BUSY", "CLUSTERDOWN")


class TypedCustomer(Customer):
    """A client of counters (c), hashes (h), sets (s), sorted sets (z), counters in fields (n), sketches (p), and of hashes
    whose fields have an expiry (e)."""

    def _command(self, key: bytes) -> list[bytes]:
        rng = self._rng
        name = b"%c%d" % (rng.choice(b"kkr"), rng.randrange(4)) + PADDING  # those with r may be removed
        if key[:1] == b"c":
            if rng.random() < 0.2:
                return [b"GET", key]
            return [b"INCR", key] if rng.random() < 0.5 else [b"INCRBY", key, b"%d" % rng.randint(1, 9)]
        if key[:1] == b"n":
            return [b"HINCRBY", key, b"k", b"%d" % rng.randint(1, 9)] if rng.random() < 0.8 else [b"HGETALL", key]
        if key[:1] == b"h":
            if rng.random() < 0.6:
                return [b"HSET", key, name, self._value(key)]
            return [b"HDEL", key, name] if name[:1] == b"r" else [b"HGETALL", key]
        if key[:1] == b"z":
            return self._sorted(key, name)
        if key[:1] == b"p":
            return [b"PFADD", key, self._value(key)] if rng.random() < 0.8 else [b"PFCOUNT", key]
        if key[:1] == b"e":
            return self._expiring(key, rng.choice(LASTING))
        if rng.random() < 0.6:
            return [b"SADD", key, name]
        return [b"SREM", key, name] if name[:1] == b"r" else [b"SMEMBERS", key]

    def _expiring(self, key: bytes, name: bytes) -> list[bytes]:
        if self._rng.random() < 0.5:
            return [b"HINCRBY", key, name, b"1"]  # it leaves the expiry as it is
        self._values += 1
        at_ms = FAR_MS + 100 * self._values + int(self.client.name[1:])  # nobody else asks for it
        return [b"HPEXPIREAT", key, b"%d" % at_ms, b"FIELDS", b"1", name]

    def _sorted(self, key: bytes, name: bytes) -> list[bytes]:
        rng = self._rng
        if rng.random() < 0.25:
            return [b"ZINCRBY", key, b"%d" % rng.randint(1, 9), b"sum"]
        if rng.random() < 0.6:
            self._values += 1
            return [
                b"ZADD",
                key,
                b"%d" % (100 * self._values + int(self.client.name[1:])),
                name,
            ]  # nobody else writes it
        return [b"ZREM", key, name] if name[:1] == b"r" else [b"ZRANGE", key, b"0", b"-1", b"WITHSCORES"]


def profile_of(seed: int) -> Profile:
    """The profile that a seed stands for."""
    rng = random.Random(f"types {seed}")
    names = tuple(sorted(rng.sample(HARMLESS, rng.randint(1, 4))))
    return Profile(
        rng.choice((2, 3, 3, 3, 5)), rng.randint(2, 5), len(KEYS), names, rng.choice((150, 400, 1000)),
        6000, config(fsync=rng.choice(("everysec", "always")), clock_entries_max=rng.choice((2, 8)),
                     large_message_bytes=rng.choice((200, 256 << 10)), batch_bytes_max=rng.choice((100, 4 << 20)),
                     patch_record_bytes_min=rng.choice((200, 200, 16 << 10)),
                     patch_rows_bytes_max=rng.choice((500, 64 << 20)), record_cache_bytes=rng.choice((0, 1 << 20))),
    )  # fmt: skip


def run(seed: int, profile: Profile | None = None) -> tuple[list[str], World]:
    """Runs the seed and judges it."""
    profile = profile or profile_of(seed)
    world = World(seed, profile.nodes, profile.config)
    for host in world.hosts:
        host.skew_ms = world.rng.randint(-SKEW_MS_MAX, SKEW_MS_MAX) // 2
    world.start()
    customers = [
        TypedCustomer(world, f"c{number}", world.hosts, list(KEYS), profile.calm) for number in range(profile.customers)
    ]
    Storm(world, list(profile.faults), profile.pace_ms, profile.duration_ms)
    world.run(profile.duration_ms)
    for customer in customers:
        customer.stop()
    world.heal(within_ms=1000)
    world.run(100)
    if not world.run_until(HEAL_MS_MAX, lambda: world.at_peace() and all(each.client.idle for each in customers)):
        return ["after the storm the nodes do not find each other, or clients still wait"], world
    if not world.run_until(CONVERGE_MS_MAX, lambda: not world.differences()):
        return [f"does not converge: {difference}" for difference in world.differences()], world
    return judge(world) + _remove_and_shake(world), world


def _remove_and_shake(world: World) -> list[str]:
    """Removes all that may be removed, by nodes that do not know what another one has taken alone; then what is wrong.

    Two nodes stay together, for both must confirm a removal."""
    *rest, lone = world.hosts
    before = {key: _names(key, _shown(world, 0, key)) for key in KEYS}
    if len(rest) > 1:
        for host in rest:
            host.kill()
        world.run(1000)
        world.client(lone).send([b"DYN.QUORUM", b"R", b"1", b"W", b"1"], *LONE_WRITES)
        world.run(1000)
        lone.kill()
        for host in rest:
            if host.node is None:
                host.start()
        world.run(1000)
    for command, key in REMOVALS:
        told = world.ask(rest[0] if rest else lone, command, key, *REMOVABLE)
        if told.error:
            return [f"{command!r} without the last node: {told.error}"]
    world.heal()
    if not world.run_until(CONVERGE_MS_MAX, lambda: world.at_peace() and not world.differences()):
        return [f"does not converge after removals: {difference}" for difference in world.differences()]
    faults = []
    for key, names in before.items():
        for place, host in enumerate(world.hosts):
            present = _names(key, _shown(world, place, key))
            back = [name for name in REMOVABLE if name in present and key[:1] in b"hsz"]
            lost = [name for name in names if name not in present and name not in REMOVABLE]
            faults += [f"came back: {back} of {key!r} on {host.id}"] if back else []
            faults += [f"lost with removals: {lost} of {key!r} on {host.id}"] if lost else []
    return faults


def _names(key: bytes, shown: Any) -> list[bytes]:
    """The fields, elements or members of what is shown; of strings and times nothing that can be removed."""
    if not isinstance(shown, list) or key[:1] == b"e":
        return []
    return list(shown if key[:1] == b"s" else shown[::2])


def judge(world: World) -> list[str]:
    """What is wrong, by the history and by what each node answers now."""
    operations = list(world.history.operations)
    faults: list[str] = []
    for key in KEYS:
        mine = [each for each in operations if len(each.args) > 1 and each.args[1] == key]
        shown = [_shown(world, place, key) for place in range(len(world.hosts))]
        if any(each != shown[0] for each in shown):
            faults.append(f"the nodes differ about {key!r}: {shown}")
        faults += _CHECKS[key[:1]](key, mine, shown[0])
    return faults


def _shown(world: World, place: int, key: bytes) -> Any:
    command, *options = {
        b"c": ["GET"], b"h": ["HGETALL"], b"n": ["HGETALL"], b"s": ["SMEMBERS"], b"z": ["ZRANGE", "0", "-1", "WITHSCORES"],
        b"p": ["GET"], b"e": ["HPEXPIRETIME", "FIELDS", str(len(LASTING)), *LASTING],
    }[key[:1]]  # fmt: skip
    for _ in range(3):
        read = world.ask(world.hosts[place], command, key, *options)
        if not read.error:
            break
    if read.error:
        return read.error
    return sorted(read.reply) if command == "SMEMBERS" else read.reply


def outcome(operation: Operation) -> str:
    """Whether a command was run: yes, no, or perhaps."""
    if not operation.answered:
        return "perhaps"
    if not operation.error:
        return "yes"
    return "no" if any(word in operation.error for word in _UNWRITTEN) else "perhaps"


def _check_counter(key: bytes, operations: list[Operation], shown: Any) -> list[str]:
    sums = {"yes": 0, "perhaps": 0, "no": 0}
    for operation in operations:
        if operation.name in ("INCR", "INCRBY", "HINCRBY", "ZINCRBY"):
            sums[outcome(operation)] += (
                int(operation.args[_AMOUNT_AT[operation.name]]) if operation.name != "INCR" else 1
            )
    if isinstance(shown, list):
        shown = dict(zip(shown[::2], shown[1::2], strict=True)).get(b"sum" if key[:1] == b"z" else b"k")
    number = int(shown or b"0")
    if number < sums["yes"]:
        return [f"increments lost: {key!r} is {number} after acknowledged {sums['yes']}"]
    if number > sums["yes"] + sums["perhaps"]:
        return [f"increments counted twice: {key!r} is {number} after at most {sums['yes'] + sums['perhaps']}"]
    return []


def _check_hash(key: bytes, operations: list[Operation], shown: Any) -> list[str]:
    present = dict(zip(shown[::2], shown[1::2], strict=True))
    puts = [each for each in operations if each.name == "HSET"]
    faults = []
    for name in dict.fromkeys([*present, *(each.args[2] for each in puts)]):
        values = [each.args[3] for each in puts if each.args[2] == name and outcome(each) != "no"]
        acknowledged = any(outcome(each) == "yes" for each in puts if each.args[2] == name)
        if name[:1] == b"k" and acknowledged and name not in present:
            faults.append(f"field lost: {name!r} of {key!r} was acknowledged and nobody removed it")
        if name in present and present[name] not in values:
            faults.append(f"{present[name]!r} of {key!r} was written by nobody")
    return faults


def _check_set(key: bytes, operations: list[Operation], shown: Any) -> list[str]:
    adds = [each for each in operations if each.name == "SADD"]
    faults = []
    for name in dict.fromkeys([*shown, *(each.args[2] for each in adds)]):
        of_name = [each for each in adds if each.args[2] == name]
        if name[:1] == b"k" and any(outcome(each) == "yes" for each in of_name) and name not in shown:
            faults.append(f"element lost: {name!r} of {key!r} was acknowledged and nobody removed it")
        if name in shown and all(outcome(each) == "no" for each in of_name):
            faults.append(f"element {name!r} of {key!r} was added by nobody")
    return faults


def _check_sorted_set(key: bytes, operations: list[Operation], shown: Any) -> list[str]:
    present = dict(zip(shown[::2], shown[1::2], strict=True))
    adds = [each for each in operations if each.name == "ZADD"]
    faults = _check_counter(key, operations, shown)
    for name in dict.fromkeys([*present, *(each.args[3] for each in adds)]):
        of_name = [each for each in adds if each.args[3] == name]
        if name[:1] == b"k" and any(outcome(each) == "yes" for each in of_name) and name not in present:
            faults.append(f"member lost: {name!r} of {key!r} was acknowledged and nobody removed it")
        if (
            name in present
            and name != b"sum"
            and not any(each.args[2] == present[name] for each in of_name if outcome(each) != "no")
        ):
            faults.append(f"score {present[name]!r} of {name!r} in {key!r} was written by nobody")
    return faults


def _check_sketch(key: bytes, operations: list[Operation], shown: Any) -> list[str]:
    adds = {name: [each.args[2] for each in operations if each.name == "PFADD" and outcome(each) == name]
            for name in ("yes", "perhaps")}  # fmt: skip
    sketch = shown or hyperloglog.new()
    if hyperloglog.add(sketch, adds["yes"]) is not None:
        return [f"element lost: {key!r} does not have all {len(adds['yes'])} that were acknowledged"]
    most = hyperloglog.add(hyperloglog.new(), adds["yes"] + adds["perhaps"]) or hyperloglog.new()
    if hyperloglog.count([most, sketch]) != hyperloglog.count([most]):
        return [f"{key!r} has an element that was added by nobody"]
    return []


def _check_expiries(key: bytes, operations: list[Operation], shown: Any) -> list[str]:
    faults = []
    for name, at_ms in zip(LASTING, shown, strict=True):
        mine = [each for each in operations if each.name == "HPEXPIREAT" and each.args[5] == name]
        if at_ms < 0 and any(outcome(each) == "yes" and each.reply == [1] for each in mine):
            faults.append(f"expiry lost: of {name!r} in {key!r}")
        if at_ms >= 0 and at_ms not in [int(each.args[2]) for each in mine if outcome(each) != "no"]:
            faults.append(f"expiry {at_ms} of {name!r} in {key!r} was asked for by nobody")
    return faults


_AMOUNT_AT = {"INCRBY": 2, "HINCRBY": 3, "ZINCRBY": 2}
_CHECKS: dict[bytes, Callable[[bytes, list[Operation], Any], list[str]]] = {
    b"c": _check_counter, b"n": _check_counter, b"h": _check_hash, b"s": _check_set,
    b"z": _check_sorted_set, b"p": _check_sketch, b"e": _check_expiries,
}  # fmt: skip
