"""The watchdog: whatever raises in a running server, and wherever, it ends or ticks on. It never serves without ticking.

A real server runs on a real event loop, with a client, while a fault is raised in one of the functions that it calls: in
each of them in turn, as a recorded run has found them.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import pytest
import uvloop

from protocol import resp
from server.core.base.config import Config
from server.core.base.poison import poison_of_message
from server.core.base.unexpected import Fatal, PlantedFault
from server.core.records.records import META
from server.shell import crash, ticks
from server.shell.clients import Clients
from server.shell.process import make_node
from server.shell.server import Server
from server.storage.engine import StorageError
from server.storage.memory import MemoryEngine
from tests.core.commands.talking import layout_of, member
from tests.ports import free_ports

HOUSE = "/server/core/", "/server/shell/"
TICK_MS = 10
CONFIG = Config(engine="memory", tick_ms=TICK_MS, tree_leaf_bits=14, clients_max=10)
TICKS_MORE, PATIENCE_S = 5, 5.0
# Called only before there is a loop with a handler, or after the end: see process.main.
OUTSIDE = ("__init__", "make_node", "listen", "stop", "_live", "closing_batch", "begin")


class Watch:
    """Raises `error` in the first call of `code`, and counts ticks from then on. Without a code it notes all functions."""

    def __init__(self, code: CodeType | None = None, error: Exception | None = None) -> None:
        self.codes: dict[CodeType, None] = {}
        self.struck, self.struck_in = False, ""
        self.ticks = 0
        self.enough = asyncio.Event()  # of ticks after that
        self._code = code
        self._error = error or PlantedFault("planted")

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Within, calls are watched."""
        before = sys.gettrace()
        sys.settrace(self._called)
        try:
            yield
        finally:
            sys.settrace(before)

    def _called(self, frame: FrameType, event: str, arg: Any) -> None:
        code = frame.f_code
        if not any(part in code.co_filename for part in HOUSE):
            return
        self.codes[code] = None
        if code is self._code and not self.struck:
            self.struck, self.struck_in = True, name_of(code)
            raise self._error

    def count(self, tick: Callable[..., None]) -> Callable[..., None]:
        """The tick of a node, counted. (Not by tracing, which ends when it raises.)"""

        def counted(*now: int) -> None:
            tick(*now)
            self.ticks += self.struck or self._code is None
            if self.ticks == TICKS_MORE:
                self.enough.set()

        return counted


async def _live(directory: Path, watch: Watch, prepare: Callable[[Server], None] = lambda server: None) -> int | None:
    """The life of a server with a fault: its exit status, or None if it has gone on to tick."""
    loop = asyncio.get_running_loop()
    engine = MemoryEngine()
    node = make_node(member(1), engine, CONFIG)
    node.services.membership.offer(layout_of((member(1),)))
    served = Server(node, engine, CONFIG, directory, loop)
    loop.set_exception_handler(served.handle_unexpected)
    node.tick = watch.count(node.tick)  # type: ignore[method-assign]
    prepare(served)
    port = free_ports(1)
    await served.listen("127.0.0.1", port)
    with watch.watching():
        client = loop.create_task(_ask(port))
        waiting = [loop.create_task(watch.enough.wait()), client]
        done, _ = await asyncio.wait(
            [served.node_run.status, waiting[0]], timeout=PATIENCE_S, return_when="FIRST_COMPLETED"
        )
    for task in waiting:
        task.cancel()
    status = served.node_run.status.result() if served.node_run.status.done() else None
    assert done or not watch.struck, f"neither ended nor ticking after {watch.struck_in}"
    served.stop()
    return status


async def _ask(port: int) -> None:
    """A client that writes and reads, again and again."""
    try:
        while True:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            for command in (["SET", "k", "v"], ["GET", "k"], ["SET", "k", "v", "NX"], ["DEL", "k"], ["INFO"]):
                writer.write(resp.command(*command))
                await reader.readline()
            writer.close()
            await writer.wait_closed()
    except OSError:
        pass  # the server has ended


def live(
    directory: Path, watch_of: Callable[[], Watch], prepare: Callable[[Server], None] = lambda server: None
) -> Any:
    """What came of a life, and its watch."""

    async def run() -> tuple[int | None, Watch]:
        watch = watch_of()
        return await _live(directory, watch, prepare), watch

    return uvloop.run(run())


def name_of(code: CodeType) -> str:
    return f"{code.co_filename.rpartition('/server/')[2]}:{code.co_qualname}"


def test_no_fault_leaves_a_server_that_serves_and_does_not_tick(tmp_path: Path) -> None:
    status, recorded = live(tmp_path, Watch)
    assert status is None and recorded.ticks >= TICKS_MORE
    codes = [code for code in recorded.codes if code.co_name not in OUTSIDE and not code.co_name.startswith("<")]
    codes = [code for code in codes if "/core/commands/" not in code.co_filename or code.co_name == "_info"]
    assert len(codes) > 150
    ended, ticking = [], []
    for code in codes:
        status, watch = live(tmp_path, lambda code=code: Watch(code))  # type: ignore[misc]
        if watch.struck:
            assert status in (None, crash.EXIT_STATUS), name_of(code)
            (ticking if status is None else ended).append(name_of(code))
    assert {"core/node.py:Node.tick", "shell/turn.py:Turn.end", "core/work/timers.py:Timers.expire"} <= {*ended}
    assert "core/commands/info_command.py:_info" in ticking, "a command's fault is answered"
    assert len(ended) > 50


@pytest.mark.parametrize("name", ["disk_usage", "process_facts"])
def test_an_oserror_of_housekeeping_is_logged_once_and_the_node_ticks_on(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """statvfs of a directory that is mounted no more; no descriptor is left for /proc."""

    def fails(*_: object) -> None:
        raise OSError(24, "Too many open files")

    def prepare(served: Server) -> None:
        if name == "disk_usage":
            served._disk._config = Config()  # which looks at the disk
            monkeypatch.setattr("server.shell.disk.shutil.disk_usage", fails)
        else:
            monkeypatch.setattr(ticks, "process_facts", fails)

    caplog.set_level(logging.WARNING)
    status, watch = live(tmp_path, lambda: Watch(None), prepare)
    assert status is None and watch.ticks >= TICKS_MORE
    assert caplog.text.count("Too many open files") == 1 and "go on without" in caplog.text


def test_an_oserror_that_is_no_socket_s_and_no_housekeeping_s_ends_the_node(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Such a one ended the timer: asyncio's own handler only logs it, and the timer is set again last."""
    status, _ = live(tmp_path, lambda: Watch(Clients.close_idle.__code__, OSError(5, "Input/output error")))
    assert status == crash.EXIT_STATUS and "Traceback" in caplog.text and "close_idle" in caplog.text


def test_a_disk_that_refuses_a_write_ends_the_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(*_: object) -> None:
        raise StorageError("cannot commit")

    status, _ = live(
        tmp_path,
        lambda: Watch(MemoryEngine.sync.__code__),
        lambda served: setattr(served._durability._engine, "commit", refuses),
    )
    assert status == 1


def test_contained_faults_are_logged_with_their_traceback_and_not_again_and_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(resp, "verbatim", lambda *_: 1 // 0)
    status, _ = live(tmp_path, lambda: Watch(None))
    assert status is None
    assert caplog.text.count("Traceback") == 1 and "ZeroDivisionError" in caplog.text and "in info" in caplog.text


@pytest.mark.parametrize("commits", [True, False])
def test_what_has_ended_the_node_is_on_the_disk_when_the_process_ends(tmp_path: Path, commits: bool) -> None:
    """So that it is held back after the restart (base/quarantine.py). A disk that refuses that changes nothing else."""
    engines = []

    def fail(served: Server) -> None:
        engine = served._durability._engine
        engines.append(engine)
        if not commits:
            engine.commit = lambda writes: (_ for _ in ()).throw(StorageError("no"))  # type: ignore[method-assign]
        error = Fatal("a handler", poison_of_message("STORE", [b"key", b"record"]))
        served._context.loop.call_soon(
            served.handle_unexpected, served._context.loop, {"exception": error, "message": ""}
        )

    status, _ = live(tmp_path, lambda: Watch(None), fail)
    assert status == crash.EXIT_STATUS
    [engine] = engines
    stored = engine.get(META + b"deaths")
    assert (stored is not None and b"STORE" in stored) is commits


async def _fail() -> None:
    raise PlantedFault("in a task")


def test_a_task_that_fails_is_told_of_at_once() -> None:
    async def run() -> list[dict[str, Any]]:
        told: list[dict[str, Any]] = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: told.append(context))
        task = loop.create_task(_fail(), name="it")
        task.add_done_callback(crash.watch_task)
        await asyncio.wait([task])
        await asyncio.wait([loop.create_task(asyncio.Event().wait())], timeout=0.01)
        return told

    (context,) = uvloop.run(run())
    assert isinstance(context["exception"], PlantedFault) and crash.is_fatal(context["exception"])


def test_an_error_of_a_socket_is_not_fatal() -> None:
    assert not crash.is_fatal(ConnectionResetError(104, "Connection reset by peer"))
    assert not crash.is_fatal(None) and not crash.is_fatal(KeyboardInterrupt())
    assert crash.is_fatal(PlantedFault())
