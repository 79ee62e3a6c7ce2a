"""What a node tells of its disk before that is full."""

from __future__ import annotations

import asyncio
import shutil
from collections import namedtuple
from pathlib import Path
from typing import Any, cast

import pytest

from server.core.base.config import Config
from server.shell import disk
from server.shell.disk import PLENTY, DiskWatch

MIB = 1 << 20
Usage = namedtuple("Usage", "total used free")


class Engine:
    def stats(self) -> dict[str, Any]:
        return {}

    def set_compaction(self, wanted: bool) -> None: ...

    def flush(self) -> None: ...


@pytest.mark.parametrize(("free", "said", "is_urgent"), [
    (PLENTY * 64, [], False), (PLENTY * 64 - 1, ["only 191 MiB are free"], False), (96, ["only 96 MiB are free"], False),
    (95, ["only 95 MiB are free"], True), (63, [], False),
])  # fmt: skip
def test_a_disk_that_fills_is_told_before_writes_are_refused(
    free: int, said: list[str], is_urgent: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(0, 0, free * MIB))
    loop = asyncio.new_event_loop()
    rooms: list[int] = []
    config = Config(engine="rocksdb", disk_free_bytes_min=64 * MIB)
    watch = DiskWatch(
        cast(Any, Engine()), config, tmp_path, loop, rooms.append, lambda: None, lambda: 0, lambda: 0, False
    )
    watch.check()
    notices = watch.notices()
    assert watch.urgent() == (notices if is_urgent else [])
    watch.close()
    loop.close()
    assert [notice[: len(begin)] for notice, begin in zip(notices, said, strict=True)] == said
    assert all("free some space" in notice for notice in notices)
    assert bool(rooms) == (free < 64), "and a full one by what it has room for"


def test_a_node_that_restarts_to_take_writes_again_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(0, 0, 500 * MIB))
    monkeypatch.setattr(disk, "has_room_to_open", lambda engine, directory: True)
    loop, reopened = asyncio.new_event_loop(), [0]
    config = Config(engine="rocksdb", disk_free_bytes_min=64 * MIB)
    watch = DiskWatch(
        cast(Any, Engine()), config, tmp_path, loop, print, lambda: reopened.append(1), lambda: 0, lambda: 0, True
    )
    watch.check()
    watch.close()
    loop.close()
    assert reopened == [0, 1] and watch.facts() == {"disk_free_bytes": str(500 * MIB)}
    assert [record.getMessage() for record in caplog.records] == [
        f"500 MiB are free in {tmp_path}: the node restarts in this process to take writes again; until then its port "
        "is closed"
    ]
