"""Python's small objects come from huge pages once a process has asked for that, and memory that is free goes back."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.native_build import CAN_BUILD, build

THP = Path("/sys/kernel/mm/transparent_hugepage")
pytestmark = pytest.mark.skipif(
    not CAN_BUILD or not THP.exists(), reason="there is no compiler, no headers of Python, or no huge pages"
)
# The arguments: the module. Prints "passed" at its end; a process of its own, because arenas cannot be put back.
CHECK = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("dyn_native", sys.argv[1])
native = importlib.util.module_from_spec(spec)
spec.loader.exec_module(native)
MIB = 1 << 20

def region():
    "Start, end and resident MiB of the mapping that may have huge pages."
    found = []
    for line in open("/proc/self/smaps"):
        words = line.split()
        if "-" in words[0] and not words[0].endswith(":"):
            start, end = (int(each, 16) for each in words[0].split("-"))
        elif words[0] == "Rss:":
            rss = int(words[1]) // 1024
        elif words[0] == "VmFlags:" and "hg" in words and end - start > 1 << 35:
            found.append((start, end, rss))
    assert len(found) <= 1, found
    return found[0] if found else (0, 0, 0)

def is_mapped(address):
    "Whether the process has memory at this address."
    ranges = [line.split()[0].split("-") for line in open("/proc/self/maps")]
    return any(int(start, 16) <= address < int(end, 16) for start, end in ranges)

def objects():
    "40 MiB of them."
    return [bytes(200) + number.to_bytes(4, "big") for number in range(40 * MIB // 256)]

before = [bytes(300) for _ in range(20_000)]
assert region() == (0, 0, 0)
assert native.use_huge_pages() and native.use_huge_pages()
for _ in range(3):
    many = objects()
    start, end, rss = region()
    inside = [each for each in map(id, many) if start <= each < end]
    assert len(inside) > 0.9 * len(many), len(inside)
    assert rss >= 36, rss
    assert max(inside) < start + 80 * MIB, "arenas that were given back are not used again"
    assert all([many[number][200:] == number.to_bytes(4, "big") for number in range(len(many))])
    del many, inside
    assert region()[2] < 8, region()
address = id(before[10_000])
before.clear()
assert not is_mapped(address), "an arena from before did not go back to where it came from"
print("passed")
"""


def test_objects_are_in_huge_pages_and_free_memory_goes_back(tmp_path: Path) -> None:
    library = build(tmp_path)
    run = subprocess.run([sys.executable, "-c", CHECK, str(library)], capture_output=True, text=True)
    assert run.stdout == "passed\n", run.stderr[-3000:]


def test_a_process_with_too_few_addresses_goes_on_without(tmp_path: Path) -> None:
    library = build(tmp_path)
    check = CHECK.split("before =")[0] + "assert not native.use_huge_pages() and len(objects()) > 1000; print('passed')"
    words = ["prlimit", "--as=4000000000", sys.executable, "-c", check, str(library)]
    run = subprocess.run(words, capture_output=True, text=True)
    assert run.stdout == "passed\n", run.stderr[-3000:]
