"""A node copies large values into memory that it has already: what counts is the pages that the kernel has to make."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from server.shell.allocator import KEPT_BYTES_MAX, MEMORY_SHARE, keep_freed_memory

MACHINE_BYTES = KEPT_BYTES_MAX * MEMORY_SHARE
COUNT_FAULTS = """
import resource, sys
from server.shell.allocator import keep_freed_memory
if sys.argv[1] != "0":
    assert keep_freed_memory(int(sys.argv[1]), {})
value = bytes(10_000_000)
def copy():
    copies = [bytearray(value) for _ in range(3)]
for _ in range(3):
    copy()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    copy()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(memory: int) -> int:
    """How many pages a process gets for ten times three copies of 10 MB; `memory` of 0: with what glibc does by itself."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    words = [sys.executable, "-c", COUNT_FAULTS, str(memory)]
    return int(subprocess.run(words, capture_output=True, check=True, env=environment).stdout)


def test_copies_of_large_values_take_no_new_pages() -> None:
    assert faults(MACHINE_BYTES) < 1000 < faults(0)


def test_a_small_machine_keeps_less() -> None:
    """64 MiB of memory: 2 MiB are kept, and the copies are made into new pages."""
    assert faults(MACHINE_BYTES // MEMORY_SHARE) > 1000


@pytest.mark.parametrize("name", ["MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES"])
def test_what_an_operator_has_set_stays(name: str) -> None:
    assert not keep_freed_memory(MACHINE_BYTES, {name: "1"})
