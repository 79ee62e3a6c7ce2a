"""`make bench-instructions`: how many instructions of the processor a SET and a GET take, over three nodes together.

Theory. Seconds depend on what else the machine does; instructions do not. So this guard counts those of a fixed
workload under valgrind's callgrind. Three whole nodes (compiled, with their shells and the memory engine) run in one
process on a loop in virtual time. Their sockets are objects that hand bytes over in the next pass of the loop, so every
run makes the same turns, and two runs differ by less than one in a hundred. Neither the kernel, nor uvloop, nor RocksDB
is counted: these do the same work in every version as long as the number of turns and of messages is the same, which
this prints, too.

callgrind collects only below `COLLECTS`, a function of the interpreter that nothing else here uses: each phase of the
workload runs below it, and leaves a profile of its own. `callgrind_annotate` shows the profiles by function (`--keep DIR`).
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import gc
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.phases import COMMANDS, KEYS, PHASES, VALUE, Phase
from tests.virtual_loop import VirtualLoop, rule_time

NODES = 3
BASE_PORT = 7500
USER = (b"app", b">0123456789abcdef")
COLLECTS = "PyRun_SimpleStringFlags"


class BenchClient(asyncio.Protocol):
    """Sends batches of commands, the next one when all replies to the last one are there."""

    def __init__(self, batches: list[bytes], reply_bytes: int, ended: Callable[[], None]) -> None:
        self.give(batches, reply_bytes, ended)

    def give(self, batches: list[bytes], reply_bytes: int, ended: Callable[[], None]) -> None:
        """What to send from `begin` on, how long the replies to each batch are, and what to call behind the last one."""
        self._batches = batches
        self._reply_bytes = reply_bytes
        self._ended = ended
        self._missing_bytes = 0

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._missing_bytes -= len(data)
        assert self._missing_bytes >= 0 and data[:1] != b"-", data[:200]
        if not self._missing_bytes:
            self.begin()

    def begin(self) -> None:
        """Sends the next batch."""
        if self._batches:
            batch = self._batches.pop()
            self._missing_bytes = self._reply_bytes
            self._transport.write(batch)
        else:
            self._ended()


def _command(*words: bytes) -> bytes:
    return b"*%d\r\n" % len(words) + b"".join([b"$%d\r\n%b\r\n" % (len(word), word) for word in words])


def _batches(phase: Phase, rng: random.Random) -> list[list[bytes]]:
    """For each client, its batches."""
    each = phase.count // phase.clients // phase.depth
    names = phase.command.encode().split()

    def command(text: bytes, key: bytes) -> bytes:
        words = text.split(b"+")
        if b"KEY" not in words:
            words[1:1] = [b"KEY", *[b"VALUE"] * (words[0] == b"SET")]
        keys = iter([key, *[b"%b:%d" % (key, number) for number in range(len(words))]])
        return _command(*[next(keys) if word == b"KEY" else VALUE if word == b"VALUE" else word for word in words])

    def batch() -> bytes:
        keys = [b"%b%012d" % (phase.prefix, rng.randrange(phase.keys)) for _ in range(phase.depth // len(names))]
        return b"".join([command(text, key) for key in keys for text in names])

    return [[batch() for _ in range(each)] for _ in range(phase.clients)]


class Workload:
    """Three nodes, and the clients of the first one.

    `is_open`: the nodes have no secret, so they do not encrypt. `has_user`: the clients are a user who may read and write
    the keys key:*; or who `may_all`, so that two runs that are compared make the same turns.
    """

    def __init__(self, directory: Path, is_open: bool, has_user: bool, may_all: bool) -> None:
        self._has_user = has_user
        self._may_all = may_all
        if not is_open:
            (directory / "secret").touch(0o600)
            (directory / "secret").write_text("5e" * 32)
        self.loop = loop = VirtualLoop()
        rule_time(loop)
        from server.core.base.config import Config
        from server.core.node import Node
        from server.core.ring.layout import Member
        from server.shell.server import Server
        from server.storage.memory import MemoryEngine

        config = Config.of({"engine": "memory", "fsync": "everysec"})
        self.nodes = []
        self._members = []
        for number in range(1, NODES + 1):
            address = f"127.0.0.1:{BASE_PORT + number}"
            member = Member(f"{number:040x}", f"n{number}", address, "", 100)
            engine = MemoryEngine()
            rng = random.Random(number)
            wall_ms = time.time_ns() // 1_000_000
            node = Node(member, rng.randbytes(8), wall_ms, config, engine, rng, wall_ms)
            server = Server(node, engine, config, directory, loop)
            loop.run_until_complete(server.listen("127.0.0.1", BASE_PORT + number))
            self.nodes.append(node)
            self._members.append('{"id":"%s","name":"%s","address":"%s","zone":"","weight":100}' % (  # noqa: UP031
                member.id, member.name, member.address))  # fmt: skip

    def begin(self) -> None:
        """Makes the nodes a cluster, and fills it."""
        document = '{"partitions":128,"n":3,"r":2,"w":2,"members":[%s]}' % ",".join(self._members)  # noqa: UP031
        self._talk(_command(b"DYN.CLUSTER", b"INIT", document.encode()), b"$")
        self.loop.run_until_complete(self._later(1))
        if self._has_user:
            few = [b"~key:*", b"&key:*", b"+@read", b"+@write", b"+publish"]
            rules = [b"on", *([b"~*", b"&*", b"+@all"] if self._may_all else few)]
            self._talk(_command(b"ACL", b"SETUSER", *USER, *rules), b"+OK")
        for first in range(0, KEYS, 500):
            keys = [b"key:%012d" % number for number in range(first, first + 500)]
            self._run([[b"".join([_command(b"SET", key, VALUE) for key in keys])]], 5 * 500)
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 20, 50)

    def _later(self, delay_s: float) -> asyncio.Future[None]:
        """A future that is done at a later virtual time."""
        done = self.loop.create_future()
        self.loop.call_later(delay_s, done.set_result, None)
        return done

    def _talk(self, command: bytes, answer: bytes) -> None:
        class Talk(asyncio.Protocol):
            def data_received(self, data: bytes) -> None:
                assert data.startswith(answer), data
                done.set_result(None)

        done = self.loop.create_future()
        transport, _ = self.loop.run_until_complete(self.loop.create_connection(Talk, "127.0.0.1", BASE_PORT + 1))
        transport.write(command)
        self.loop.run_until_complete(done)

    def phase(self, phase: Phase) -> Callable[[], None]:
        """The function that runs a phase; its clients have connected already."""
        batches = _batches(phase, random.Random(phase.seed or phase.name))
        names = phase.command.split()
        replies_bytes = phase.reply_bytes or sum([len(VALUE) + 8 if name == "GET" else 5 for name in names])
        return self._prepared(batches, replies_bytes * phase.depth // len(names))

    def _run(self, batches: list[list[bytes]], reply_bytes: int) -> None:
        self._prepared(batches, reply_bytes)()

    def _prepared(self, batches: list[list[bytes]], reply_bytes: int) -> Callable[[], None]:
        loop = self.loop
        done = loop.create_future()
        running = len(batches)

        def ended() -> None:
            nonlocal running
            running -= 1
            if not running:
                done.set_result(None)

        clients = [
            loop.run_until_complete(
                loop.create_connection(lambda: BenchClient(each, reply_bytes, ended), "127.0.0.1", BASE_PORT + 1)  # noqa: B023
            )
            for each in batches
        ]
        if self._has_user:
            for each, (_, client) in zip(batches, clients, strict=True):
                logged_in = loop.create_future()
                client.give([_command(b"AUTH", USER[0], USER[1][1:])], 5, lambda: logged_in.set_result(None))  # noqa: B023
                client.begin()
                loop.run_until_complete(logged_in)
                client.give(each, reply_bytes, ended)

        def run() -> None:
            for _, client in clients:
                client.begin()
            loop.run_until_complete(done)
            for transport, _ in clients:
                transport.close()

        return run

    def counts(self) -> tuple[int, int]:
        """Turns and messages of all nodes so far."""
        statistics = [node.state.statistics for node in self.nodes]
        return sum(each.turns for each in statistics), sum(each.messages for each in statistics)


def _collected(run: Callable[[], None]) -> None:
    """Runs a function below `COLLECTS`, where callgrind collects."""
    sys.modules["__main__"].run = run
    assert not ctypes.pythonapi.PyRun_SimpleString(b"run()")


def _child(phases: Sequence[Phase], only: str, is_open: bool, has_user: bool, may_all: bool) -> None:
    from server.build import use_compiled

    use_compiled()
    with tempfile.TemporaryDirectory() as directory:
        workload = Workload(Path(directory), is_open, has_user, may_all)
        workload.begin()
        for phase in phases:
            if not re.search(only, phase.name):
                continue
            run = workload.phase(phase)
            turns, messages = workload.counts()
            begun_s = time.process_time()
            _collected(run)
            spent_s = time.process_time() - begun_s
            turns, messages = (
                after - before for after, before in zip(workload.counts(), (turns, messages), strict=True)
            )
            print(f"{phase.name}|{phase.count}|{turns}|{messages}|{spent_s}", flush=True)
        os._exit(0)  # the nodes still run


@dataclass(frozen=True)
class Cost:
    """What an operation of a phase took, over all nodes; and the turns and messages of the whole phase."""

    phase: str
    instructions: float  # 0 without valgrind
    cpu_us: float
    turns: int
    messages: int


def count(
    place: Path,
    only: str = "",
    is_open: bool = False,
    is_bare: bool = False,
    has_user: bool = False,
    by_command: bool = False,
    may_all: bool = False,
) -> list[Cost]:
    """Runs the phases whose names match `only` in a process of its own, under valgrind unless `is_bare`; `by_command`:
    those of the usual commands. The profiles come into `place`."""
    place.mkdir(parents=True, exist_ok=True)
    for old in place.glob("profile*"):
        old.unlink()
    valgrind = [] if is_bare else [
        "valgrind", "-q", "--tool=callgrind", f"--callgrind-out-file={place}/profile", "--collect-atstart=no",
        f"--toggle-collect={COLLECTS}", f"--dump-after={COLLECTS}", "--vgdb=no",
    ]  # fmt: skip
    child = [sys.executable, "-m", "tests.instructions", "--child", "--only", only]
    child += ["--open"] * is_open + ["--user"] * has_user + ["--commands"] * by_command + ["--all"] * may_all
    environment = os.environ | {"PYTHONHASHSEED": "0"}
    said = subprocess.run([*valgrind, *child], check=True, stdout=subprocess.PIPE, env=environment, text=True).stdout
    rows = []
    for number, line in enumerate(said.splitlines(), 1):
        name, operations, turns, messages, spent_s = line.split("|")
        instructions = 0 if is_bare else _collected_in(place / f"profile.{number}")
        cpu_us = float(spent_s) / int(operations) * 1e6
        rows.append(Cost(name, instructions / int(operations), cpu_us, int(turns), int(messages)))
    return rows


def _collected_in(profile: Path) -> int:
    """How many instructions a profile of callgrind has."""
    total = re.search(r"^(?:totals|summary): (\d+)", profile.read_text(), re.MULTILINE)
    assert total is not None, profile
    return int(total[1])


def main() -> None:
    """Counts, and prints a table."""
    parser = argparse.ArgumentParser(prog="python -m tests.instructions", description=__doc__)
    parser.add_argument("--keep", type=Path, help="a directory for the profiles (default: none are kept)")
    parser.add_argument("--only", default="", help="a regular expression for the phases to run")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--bare", action="store_true", help="without valgrind: print CPU microseconds an operation")
    parser.add_argument("--open", action="store_true", help="nodes without a secret, which neither prove nor encrypt")
    parser.add_argument("--user", action="store_true", help="clients log in as a user with rights to some keys only")
    parser.add_argument("--commands", action="store_true", help="other phases: the usual commands, one after the other")
    parser.add_argument("--all", action="store_true", help="with --user: a user who may do everything")
    options = parser.parse_args()
    if options.child:
        _child(COMMANDS if options.commands else PHASES, options.only, options.open, options.user, options.all)
        return
    with tempfile.TemporaryDirectory() as scratch:
        place = options.keep or Path(scratch)
        rows = count(place, options.only, options.open, options.bare, options.user, options.commands, options.all)
    print("| phase | instructions an operation | turns | messages |\n|---|---|---|---|")
    for row in rows:
        cost = f"{row.cpu_us:.1f} us" if options.bare else f"{row.instructions:,.0f}"
        print(f"| {row.phase} | {cost} | {row.turns} | {row.messages} |")


if __name__ == "__main__":
    main()
