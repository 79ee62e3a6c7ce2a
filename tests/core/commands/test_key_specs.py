"""Where a command's keys stand: for lanes and chains, for COMMAND GETKEYS, and for clients of older Redis."""

from __future__ import annotations

import pytest

from server.core.commands.command_docs import specs_of
from server.core.commands.key_specs import (
    BITFIELD_KEY,
    NOT_KEY,
    SET_KEY,
    SORT_PATTERNS,
    SORT_STORE,
    KeySpec,
    fits,
    found_keys,
    legacy_range,
)
from server.core.commands.spec import READ, CommandSpec
from server.core.commands.table import COMMANDS

ONE = KeySpec("RO access", 1)
SMOVE = (KeySpec("RW access delete", 1), KeySpec("RW insert", 2))
SUNIONSTORE = (KeySpec("OW update", 1), KeySpec("RO access", 2, last=-1))
MSET = (KeySpec("OW update", 1, last=-1, step=2),)
BLPOP = (KeySpec("RW access delete", 1, last=-2),)
LCS = (KeySpec("RO access", 1, last=1),)
ZUNION = (KeySpec("RO access", 1, counted=True),)
ZUNIONSTORE = (KeySpec("OW update", 1), KeySpec("RO access", 2, counted=True))
BITOP = (KeySpec("OW update", 2), KeySpec("RO access", 3, last=-1))
GEORADIUS = (ONE, KeySpec("OW update", 6, keyword="STORE"), KeySpec("OW update", 6, keyword="STOREDIST"))
SORT = (ONE, SORT_PATTERNS, SORT_STORE)

# As redis-server 7.0.15 answers COMMAND GETKEYS; None for "Invalid arguments specified for command".
CALLS: list[tuple[tuple[KeySpec, ...], str, str | None]] = [
    ((ONE,), "get a", "a"),
    (SMOVE, "smove a b c", "a b"),
    (SUNIONSTORE, "sunionstore a b c", "a b c"),
    (SUNIONSTORE, "pfmerge a", None),
    (MSET, "mset a b c", "a c"),
    (BLPOP, "blpop a b 0", "a b"),
    (LCS, "lcs a b LEN", "a b"),
    (ZUNION, "zunion 2 a b WEIGHTS 1 2", "a b"),
    (ZUNION, "zunion 02 a b", None),  # Redis' older way to find keys reads the digits: see deviations.py
    (ZUNION, "zunion 2 a", None),
    (ZUNION, "zunion 0 a", None),
    (ZUNION, "zunion -1 a", None),
    (ZUNION, "zunion x a", None),
    (ZUNION, "zunion 99999999999999999999999 a", None),
    (ZUNIONSTORE, "zunionstore d 1 a b", "d a"),
    (ZUNIONSTORE, "zunionstore d 3 a b", None),
    (BITOP, "bitop AND d a b", "d a b"),
    (GEORADIUS, "georadius a 1 2 3 km store b STORE c storedist d", "a b c d"),
    (GEORADIUS, "georadius a 1 2 3 km store b STORE c store d", "a b c d"),
    (GEORADIUS, "georadius a 1 2 3 km store store", "a store"),
    (GEORADIUS, "georadius a 1 2 3 store b", "a"),
    (GEORADIUS, "georadius a 1 2 3 km store", None),
    (SORT, "sort a", "a"),
    (SORT, "sort a store b store c", "a c"),
    (SORT, "sort a by store store x", "a x"),
    (SORT, "sort a get store limit store 1 store c", "a c"),
    (SORT, "sort a store", "a"),
]


@pytest.mark.parametrize(("specs", "line", "keys"), CALLS, ids=[line for _, line, _ in CALLS])
def test_keys_are_found_where_redis_finds_them(specs: tuple[KeySpec, ...], line: str, keys: str | None) -> None:
    args = line.encode().split()
    assert fits(specs, args) == (keys is not None)
    if keys is not None:
        assert [key for key, _ in found_keys(specs, args)] == keys.encode().split()


def test_a_call_with_a_wrong_number_of_keys_still_has_lanes_for_the_keys_before_it() -> None:
    spec = CommandSpec("z", -3, READ, lambda *_: None, "", "", key_specs=ZUNIONSTORE)
    assert spec.keys_of([b"zunionstore", b"d", b"3", b"a"]) == [b"d"]
    assert spec.has_keys()


def test_old_clients_are_told_the_run_of_keys_at_fixed_positions() -> None:
    assert [legacy_range(specs) for specs in (SMOVE, SUNIONSTORE, MSET, BLPOP, LCS, ZUNION, ZUNIONSTORE, BITOP)] == [
        (1, 2, 1), (1, -1, 1), (1, -1, 2), (1, -2, 1), (1, 2, 1), (0, 0, 0), (1, 1, 1), (2, -1, 1),
    ]  # fmt: skip
    assert [legacy_range(specs) for specs in (GEORADIUS, SORT, ())] == [(1, 1, 1), (1, 1, 1), (0, 0, 0)]


@pytest.mark.parametrize(
    ("spec", "line", "access"),
    [
        (SET_KEY, "set k v", "OW update"),
        (SET_KEY, "set k get", "OW update"),
        (SET_KEY, "set k v ex 1 gEt", "RW access update"),
        (BITFIELD_KEY, "bitfield k get u8 0 overflow sat get u8 1", "RO access"),
        (BITFIELD_KEY, "bitfield k get u8", "RW access update"),
        (BITFIELD_KEY, "bitfield k get u8 0 set u8 0 1", "RW access update"),
        (BITFIELD_KEY, "bitfield k get u8 0 incrby u8 0 1", "RW access update"),
    ],
)
def test_what_a_call_does_with_its_key_may_depend_on_its_arguments(spec: KeySpec, line: str, access: str) -> None:
    assert spec.access_of is not None
    assert spec.access_of(line.encode().split()) == access


def test_a_run_of_keys_beside_specifications_finds_the_same_keys() -> None:
    """A command may have both: then `keys` finds its keys, and the specifications describe them to clients."""
    for spec in [each for top in COMMANDS for each in (top, *top.subcommands)]:
        assert any(each.access != NOT_KEY for each in specs_of(spec)) == spec.has_keys()
        if spec.keys[0]:
            assert all(key_spec.is_range() for key_spec in specs_of(spec)), spec.name
            assert legacy_range(specs_of(spec)) == spec.keys, spec.name
