"""The caches take a share of the machine's memory, unless the settings say how large they are."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from server.core.base.config import Config, ConfigError
from server.shell.caches import CACHE_BYTES_MIN, memory_bytes, with_caches

GIB = 1 << 30


@pytest.mark.parametrize(
    ("settings", "records", "blocks"),
    [
        ({}, 24 * GIB * 8 // 100, 24 * GIB * 2 // 100),
        ({"cache_memory_percent": 5}, 24 * GIB * 4 // 100, 24 * GIB // 100),
        ({"record_cache_bytes": 1000}, 1000, 24 * GIB * 2 // 100),
        ({"record_cache_bytes": 1000, "block_cache_bytes": 2000}, 1000, 2000),
        ({"cache_memory_percent": 0}, Config().record_cache_bytes, Config().block_cache_bytes),
    ],
)
def test_the_table(settings: dict[str, int], records: int, blocks: int) -> None:
    config = with_caches(Config.of(settings), settings, 24 * GIB)
    assert config.record_cache_bytes == pytest.approx(records, abs=10)
    assert config.block_cache_bytes == pytest.approx(blocks, abs=10)


def test_a_small_machine_keeps_small_caches() -> None:
    config = with_caches(Config(), (), 64 << 20)
    assert (config.record_cache_bytes, config.block_cache_bytes) == (CACHE_BYTES_MIN, CACHE_BYTES_MIN)


def test_more_than_the_machine_can_spare_is_refused() -> None:
    with pytest.raises(ConfigError, match="cache_memory_percent"):
        Config.of({"cache_memory_percent": 90})


def test_the_memory_of_this_machine_is_known() -> None:
    assert memory_bytes() > 64 << 20


@pytest.mark.parametrize(
    ("groups", "limits", "least"),
    [
        ("0::/\n", {"memory.max": "1000"}, 1000),
        ("0::/\n", {"memory.max": "max"}, None),
        ("0::/system.slice/dyn@1.service\n", {"system.slice/dyn@1.service/memory.max": "1000"}, 1000),
        ("0::/a/b\n", {"a/b/memory.max": "max", "a/memory.max": "1000", "other/memory.max": "10"}, 1000),
        ("5:cpu:/a\n4:memory:/a\n0::/\n", {"memory/a/memory.limit_in_bytes": "1000", "a/memory.max": "10"}, 1000),
        ("4:memory:/host/only\n", {"memory/memory.limit_in_bytes": "1000"}, 1000),  # a container of Docker, version 1
        ("0::/../../elsewhere\n", {"memory.max": "1000"}, 1000),
        ("0::/a/../b\n", {"a/memory.max": "max", "b/memory.max": "1000"}, None),
        ("\nno group\n0\n0:\n4:memory\n0::/a:b\n", {"a:b/memory.max": "1000"}, 1000),
        ("0::/a\udcff\n", {"a\udcff/memory.max": "1000"}, 1000),  # a name of bytes that are not UTF-8
        (None, {"memory.max": "1000"}, 1000),
    ],
)
def test_the_limits_of_control_groups_count(
    tmp_path: Path, groups: str | None, limits: dict[str, str], least: int | None
) -> None:
    for name, limit in limits.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"{limit}\n")
    listed = tmp_path / "listed"
    if groups is not None:
        listed.write_bytes(os.fsencode(groups))
    assert memory_bytes(listed, tmp_path) == (least or memory_bytes(listed, tmp_path / "none"))
