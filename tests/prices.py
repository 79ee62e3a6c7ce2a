"""`make bench-security`: what secret, users, TLS and encryption at rest cost, against a cluster without them.

Each variant has a cluster of three nodes, all at the same time, and they take turns: machines are noisy, so only ratios
within one round mean anything, and each ratio is the median over the rounds. CPU is that of the three processes together.

    nothing              no secret, everybody may do everything
    secret               nodes prove their secret, and encrypt what they send to each other
    users                the same, by a user who may read and write the keys key:*
    TLS of clients       the same as `secret`, clients by TLS
    TLS of all           clients by TLS, and links by TLS instead of the nodes' own encryption
    encryption at rest   the same as `secret`, values encrypted on the disk

What the first three cost in instructions of the processor, which have no noise, stands below, if valgrind is installed
(tests/instructions.py): in memory, the kernel and RocksDB left out.
"""

from __future__ import annotations

import argparse
import re
import shutil
import statistics
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

from tests.bench import TESTS, Figures, run_benchmark
from tests.instructions import count
from tests.wire.cluster import SECRET, WireCluster
from tests.wire.tls import tls_cluster

USER, PASSWORD = "app", "0123456789abcdef0123456789abcdef"
NAMES = ("nothing", "secret", "users", "TLS of clients", "TLS of all", "encryption at rest")
KEY = "0000000a " + "11" * 32


@dataclass(frozen=True)
class Variant:
    """A cluster, the port at which it is measured, and further options of redis-benchmark."""

    name: str
    cluster: WireCluster
    port: int
    options: Sequence[str] = ()


def _dispose(cluster: WireCluster) -> None:
    """Ends a cluster, which prints the logs of its nodes: they belong to what goes wrong, not to the table."""
    with redirect_stdout(sys.stderr):
        cluster.dispose()


class Clusters:
    """Makes the clusters of the variants, each once."""

    def __init__(self, scratch: Path, stack: ExitStack) -> None:
        self._scratch = scratch
        self._stack = stack
        self._plain: WireCluster | None = None

    def _formed(self, name: str, secrets: Sequence[bytes] = (SECRET,), config: str = "") -> WireCluster:
        cluster = WireCluster(self._scratch / name, config=config, secrets=secrets)
        self._stack.callback(_dispose, cluster)
        cluster.form()
        return cluster

    def variant(self, name: str) -> Variant:
        """A variant, whose cluster serves."""
        if name.startswith("TLS"):
            return self._with_tls(name, "yes" if name == "TLS of all" else "no")
        if name == "nothing":
            cluster = self._formed("nothing", ())
        elif name == "encryption at rest":
            keys = self._scratch / "keys"
            keys.touch(0o600)
            keys.write_text(f"{KEY}\n")
            cluster = self._formed("at-rest", config=f'encryption_key_file = "{keys}"\n')
        else:
            cluster = self._plain = self._plain or self._formed("plain")
        if name != "users":
            return Variant(name, cluster, cluster.nodes[0].port)
        with cluster.nodes[0].client() as client:
            client.execute_command(
                "ACL", "SETUSER", USER, "on", f">{PASSWORD}", "~key:*", "+@read", "+@write", "+config"
            )
        return Variant(name, cluster, cluster.nodes[0].port, ("--user", USER, "-a", PASSWORD))

    def _with_tls(self, name: str, peers: str) -> Variant:
        cluster, home, ports = tls_cluster(self._scratch / f"tls-{peers}", tls_peers=peers)
        self._stack.callback(_dispose, cluster)
        return Variant(name, cluster, ports[0], ("--tls", "--cacert", str(home / "ca.crt")))


def main() -> None:
    """Runs the rounds and prints the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.prices", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=100_000, help="per test at -P 1; four times as many at -P 16")
    parser.add_argument("--only", default="", help="a regular expression for the variants beside `nothing`")
    options = parser.parse_args()
    results: dict[tuple[str, str, int], list[Figures]] = {}
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
        clusters = Clusters(Path(scratch), stack)
        variants = [clusters.variant(name) for name in NAMES if re.search(f"nothing|{options.only}", name)]
        with variants[0].cluster.nodes[0].client() as client:
            build = str(client.info("server")["dyn_build"])
        for number in range(options.rounds):
            for test, depth in TESTS:
                for each in variants:
                    print(f"round {number + 1}: {each.name} {test} -P {depth}", file=sys.stderr, flush=True)
                    pids = [node.pid for node in each.cluster.nodes]
                    requests = options.requests * (4 if depth > 1 else 1)
                    found = run_benchmark(each.port, pids, test, depth, requests, each.options)
                    results.setdefault((each.name, test, depth), []).append(found)
    _report([each.name for each in variants], results, options.rounds, build)
    if shutil.which("valgrind"):
        _report_instructions()


def _report(names: list[str], results: dict[tuple[str, str, int], list[Figures]], rounds: int, build: str) -> None:
    print(f"\n{rounds} rounds, {build} nodes; redis-benchmark -c 50 -d 100 -r 100000; three nodes, RocksDB, everysec;")
    print("CPU: seconds per million operations over the three processes; ratios to `nothing` of the same round\n")
    print("| test | cluster | krps | ratio | p99 ms | CPU s/M | ratio |\n|---|---|---|---|---|---|---|")
    for test, depth in TESTS:
        for name in names:
            runs, bare = results[name, test, depth], results["nothing", test, depth]
            pairs = list(zip(runs, bare, strict=True))
            cells = [
                f"{statistics.median(run.rps for run in runs) / 1000:.1f}",
                f"{statistics.median(run.rps / other.rps for run, other in pairs):.2f}",
                f"{statistics.median(run.p99_ms for run in runs):.2f}",
                f"{statistics.median(run.cpu_s for run in runs):.1f}",
                f"{statistics.median(run.cpu_s / other.cpu_s for run, other in pairs):.2f}",
            ]
            print(f"| {test} -P {depth} | {name} | {' | '.join(cells)} |")


def _report_instructions() -> None:
    """Prints what an operation takes over the three nodes: without a secret, with it, and as a user besides."""
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        each = zip(count(place, is_open=True), count(place), count(place, has_user=True), strict=True)
        print("\n| instructions an operation | nothing | secret | users | secret / nothing | users / secret |")
        print("|---|---|---|---|---|---|")
        for bare, secret, user in each:
            costs = [row.instructions for row in (bare, secret, user)]
            shown = " | ".join([f"{cost:,.0f}" for cost in costs])
            print(f"| {bare.phase} | {shown} | {costs[1] / costs[0]:.3f} | {costs[2] / costs[1]:.3f} |")
        each_command = zip(
            count(place, has_user=True, by_command=True, may_all=True),
            count(place, has_user=True, by_command=True),
            strict=True,
        )
        print("\n| instructions an operation | everything allowed | users | ratio |\n|---|---|---|---|")
        for free, user in each_command:
            ratio = user.instructions / free.instructions
            print(f"| {free.phase} | {free.instructions:,.0f} | {user.instructions:,.0f} | {ratio:.3f} |")


if __name__ == "__main__":
    main()
