"""`make bench-turns`: how long one command on a collection of 100,000 elements holds a node, beside a bare redis-server.

Each command of the table that takes a key runs once a round on a fresh copy of its collection (turn_cases.py). The table
has the longest turn of any of three nodes while it ran (turn_probe.py), the CPU of all nodes, and redis-server's CPU. The
worst commands come first. Each figure is the smallest one of the rounds: what disturbs only makes it larger. Nothing here
asserts.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import redis

from tests.scale.generator import pass_s
from tests.servers import Served, cpu_s, dyn_cluster, redis_server
from tests.turn_cases import KINDS, Case, cases, key, words_of
from tests.turn_probe import Probes, probes

ELEMENTS = 100_000
BATCH = 10_000
QUIET_CPU = 0.01  # share of a core that idle nodes may use
_FIELDS_EXPIRE_S = 100_000


class Figures(NamedTuple):
    """What one run of a command took: the longest turn, all CPU, and the time until its reply; or its error."""

    turn_ms: float
    cpu_ms: float
    reply_ms: float
    error: str = ""


class Server:
    """A server, and what commands on it take."""

    def __init__(self, served: Served, probing: Probes | None) -> None:
        self.client = redis.Redis(port=served.port, socket_timeout=120)
        self._pids = served.pids
        self._probes = probing
        self._dump = b""

    def fill(self, chosen: list[Case]) -> None:
        """Makes the collections that these cases use, and the dump that RESTORE gets."""
        wanted = {name for case in chosen for name in (case.kind, *case.words)}
        for name, kind in KINDS.items():
            if name not in wanted and not (name == "zset" and "dump" in wanted):
                continue
            print(f"filling {name}", file=sys.stderr, flush=True)
            for first in range(0, ELEMENTS, BATCH):
                self._add(name, kind.adding, [kind.element(number) for number in range(first, first + BATCH)])
        fields = [KINDS["hash_x"].element(number)[0] for number in range(ELEMENTS)]
        for first in range(0, ELEMENTS, BATCH) if "hash_x" in wanted else ():
            part = fields[first : first + BATCH]
            try:
                self.client.execute_command("HEXPIRE", key("hash_x"), _FIELDS_EXPIRE_S, "FIELDS", len(part), *part)
            except redis.ResponseError:
                break  # redis-server before 7.4
        self._dump = self.client.dump(key("zset")) or b""

    def _add(self, name: str, command: str, elements: list[list[str]]) -> None:
        if command == "APPEND":
            self.client.append(key(name), "".join(words[0] for words in elements))
        elif command == "XADD":
            pipe = self.client.pipeline(transaction=False)
            for words in elements:
                pipe.execute_command(command, key(name), *words)
            pipe.execute()
        else:
            self.client.execute_command(command, key(name), *[word for words in elements for word in words])

    def measure(self, case: Case) -> Figures:
        """Runs a command once."""
        client = self.client
        client.delete(key("k"), key("out"))
        if case.kind:
            client.copy(key(case.kind), key("k"))
        words: list[str | bytes] = [self._dump if word == "dump" else word for word in words_of(case)]
        self._wait_until_quiet()
        if self._probes is not None:
            self._probes.begin()
        used_s, begun_s, error = cpu_s(self._pids), time.perf_counter(), ""
        try:
            _send(client, words)
        except redis.ResponseError as refusal:
            error = str(refusal)
        reply_ms = 1000 * (time.perf_counter() - begun_s)
        self._wait_until_quiet()
        cpu_ms = 1000 * (cpu_s(self._pids) - used_s)
        turn_ms = max(self._probes.worst_ms()) if self._probes is not None else cpu_ms
        return Figures(turn_ms, cpu_ms, reply_ms, error)

    def _wait_until_quiet(self) -> None:
        """Waits until the servers use next to no CPU, but for what the probes cost."""
        share = QUIET_CPU if self._probes is None else 40 * QUIET_CPU
        for _ in range(100):
            used_s, begun_s = cpu_s(self._pids), time.perf_counter()
            pass_s(0.05)
            if cpu_s(self._pids) - used_s < share * (time.perf_counter() - begun_s):
                return


def _send(client: redis.Redis, words: list[str | bytes]) -> None:
    """Runs a command, and reads its reply without parsing it with redis-py's rules."""
    connection = client.connection_pool.get_connection("_")
    try:
        connection.send_command(*words)
        connection.read_response(disable_decoding=True)
    finally:
        client.connection_pool.release(connection)


def main() -> None:
    """Fills both, runs the cases and prints the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.longest_turns", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", help="a regular expression: the cases whose kind and words have a match")
    parser.add_argument("--dir", type=Path, help="where the cluster keeps its data (default: a temporary directory)")
    options = parser.parse_args()
    chosen = [case for case in cases() if re.search(options.only, f"{case.kind} {case.name}")]
    with (
        tempfile.TemporaryDirectory(dir=options.dir) as scratch,
        redis_server(Path(scratch), "--activerehashing", "no", "--hz", "1") as bare,
        dyn_cluster(Path(scratch)) as cluster,
        probes([cluster.port + number for number in range(len(cluster.pids))], cluster.pids) as probing,
    ):
        servers = {"redis": Server(bare, None), "dyn": Server(cluster, probing)}
        for server in servers.values():
            server.fill(chosen)
        results: dict[tuple[str, Case], Figures] = {}
        for number in range(options.rounds):
            for case in chosen:
                print(f"round {number + 1}: {case.kind} {case.name}", file=sys.stderr, flush=True)
                for name, server in servers.items():
                    place = name, case
                    figures, before = server.measure(case), results.get(place)
                    results[place] = figures if before is None else _smaller(before, figures)
    _report(results)


def _smaller(one: Figures, other: Figures) -> Figures:
    return Figures(
        min(one.turn_ms, other.turn_ms), min(one.cpu_ms, other.cpu_ms), min(one.reply_ms, other.reply_ms), one.error
    )


def _report(results: dict[tuple[str, Case], Figures]) -> None:
    print(f"collections of {ELEMENTS:,} elements; milliseconds; the longest turn first\n")
    print("| kind | command | longest turn | reply | CPU | redis CPU | reply |")
    print("|---|---|---|---|---|---|---|")
    rows = sorted([(figures.turn_ms, case) for (name, case), figures in results.items() if name == "dyn"], reverse=True)
    for turn_ms, case in rows:
        ours, theirs = results["dyn", case], results["redis", case]
        told = " ".join(each.error[:40] for each in (ours, theirs) if each.error)
        print(
            f"| {case.kind} | {' '.join(case.words)} {told} | {turn_ms:.1f} | {ours.reply_ms:.1f} | {ours.cpu_ms:.0f} "
            f"| {theirs.cpu_ms:.1f} | {theirs.reply_ms:.1f} |"
        )


if __name__ == "__main__":
    main()
