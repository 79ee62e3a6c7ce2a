"""What a node tells of its machine, and that a file of the kernel which cannot be read takes nothing else with it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from server.shell import machine


def test_the_facts_are_those_of_this_machine(tmp_path: Path) -> None:
    facts = machine.examiner(tmp_path, "127.0.0.1:1", lambda: {"is_public": False})()
    assert facts["disk_bytes"] == shutil.disk_usage(tmp_path).total
    assert facts["machine"] == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert (facts["cpus"], facts["build"], facts["listen"]) == (os.cpu_count(), "interpreted", "127.0.0.1:1")
    assert 0 < facts["resident_bytes"] < facts["machine_memory_bytes"] and facts["is_public"] is False
    assert facts["kernel"]["swappiness"] >= 0


def test_what_cannot_be_read_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_HUGE_PAGES", str(tmp_path / "none"))
    monkeypatch.setitem(machine._NUMBERS, "swappiness", str(tmp_path / "none"))
    facts = machine.machine_facts(tmp_path / "gone", {})
    assert "disk_bytes" not in facts and facts["files_max"]
    assert "swappiness" not in facts["kernel"] and "transparent_hugepages" not in facts["kernel"]
