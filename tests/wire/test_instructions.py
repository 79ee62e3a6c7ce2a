"""A SET and a GET take no more instructions of the processor than they did, and a user with rights to some keys takes no
more than one who may do everything: seconds depend on the machine, these do not.

`BASELINE` is what `make bench-instructions` has shown last. A change that costs more than a twentieth fails here. If it is
worth that, or if a change has made a line cheaper, write the new numbers down in the same commit.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from server.build import COMPILED, ROOT, is_current
from tests.instructions import count
from tests.phases import COMMANDS

BASELINE = {
    "SET -P 1": 71_139,
    "GET -P 1": 49_515,
    "SET -P 16": 25_380,
    "GET -P 16": 11_859,
    "SETs by one pipeline": 20_028,
    "SETs and GETs by one pipeline": 19_984,
    "SET NX by one pipeline": 65_997,
    "SET NX of one key by one pipeline": 46_016,
}
GROWTH_MAX = 1.05
USER_GROWTH_MAX = 1.02  # of all but the kernel and RocksDB; the whole check of a call costs more than this

_NEEDS_VALGRIND = pytest.mark.skipif(shutil.which("valgrind") is None, reason="valgrind is not installed")
_NEEDS_BUILD = pytest.mark.skipif(not is_current(ROOT / COMPILED), reason="nodes run from sources: nothing is compiled")


@_NEEDS_VALGRIND
@_NEEDS_BUILD
def test_no_operation_takes_more_instructions_than_before(tmp_path: Path) -> None:
    counted = {row.phase: round(row.instructions) for row in count(tmp_path)}
    print(counted)
    assert list(counted) == list(BASELINE)
    grown = {phase: counted[phase] / BASELINE[phase] for phase in BASELINE}
    assert max(grown.values()) < GROWTH_MAX, (counted, grown)


@pytest.mark.soak
@pytest.mark.timeout(900)
@_NEEDS_VALGRIND
@_NEEDS_BUILD
def test_a_user_with_rights_to_some_keys_pays_no_more(tmp_path: Path) -> None:
    rows = count(tmp_path, has_user=True, by_command=True, may_all=True)
    free = {row.phase: row.instructions for row in rows}
    restricted = {row.phase: row.instructions for row in count(tmp_path, has_user=True, by_command=True)}
    ratios = {phase: round(restricted[phase] / free[phase], 4) for phase in free}
    print(ratios)
    assert len(ratios) == len(COMMANDS)
    assert max(ratios.values()) < USER_GROWTH_MAX, ratios
