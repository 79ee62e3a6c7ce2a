"""`python -m tests.wire.differential.hunt`: runs random sequences for as long as you like, and prints what differs.

It starts a redis-server and nodes of ours; a difference is shrunk, printed with its script, and the hunt goes on. What it
has seen of each command stands at the end.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from server.core.commands.spec import CommandSpec
from server.core.commands.table import COMMANDS, find_command
from tests.wire.cluster import WireCluster
from tests.wire.differential.running import Difference, Pair, Sequence_
from tests.wire.differential.sequences import sequences
from tests.wire.differential.servers import listed_commands, redis_server
from tests.wire.differential.shrinking import shrunk

SIZE_BYTES_MAX = 1 << 20  # of a value, on both: Redis takes no less
SETTINGS = f"flushall = true\nvalue_bytes_max = {SIZE_BYTES_MAX}"
REDIS_OPTIONS = ("--proto-max-bulk-len", "1mb", "--enable-debug-command", "yes")
# Commands of the connection, the server and the cluster: cases.py has what they answer.
OF_THE_SERVER = ("connection", "server", "cluster", "pubsub", "scripting", "transactions")
# Of these groups, and of others, commands that sequences have or do not have all the same.
INCLUDED = ("echo", "ping", "dbsize", "flushall", "flushdb")
EXCLUDED = ("wait", "waitaof")  # they wait


@contextmanager
def both_servers(directory: Path, nodes: int) -> Iterator[tuple[int, WireCluster]]:
    """A Redis and a cluster of ours with the same settings; the port of the former."""
    cluster = WireCluster(directory / "cluster", nodes, config=SETTINGS)
    try:
        cluster.form()
        with redis_server(directory / "redis", *REDIS_OPTIONS) as redis_port:
            yield redis_port, cluster
    finally:
        cluster.dispose()


def common_specs(redis_port: int, our_port: int) -> list[CommandSpec]:
    """The commands that both have, and that sequences use."""
    both = listed_commands(redis_port) & listed_commands(our_port)
    specs = [spec for top in COMMANDS for spec in (top.subcommands or (top,))]
    return [spec for spec in specs if spec.name in both and is_used(spec)]


def is_used(spec: CommandSpec) -> bool:
    """Whether sequences use the command."""
    return spec.name in INCLUDED or not (
        spec.group in OF_THE_SERVER or spec.name in EXCLUDED or spec.name.endswith("|help") or "blocking" in spec.flags
    )


def difference_in(pair: Pair, sequence: Sequence_) -> tuple[Sequence_, Difference] | None:
    """The shrunk sequence and its difference, if the sequence has one."""
    first = pair.run(sequence)
    if first is None:
        return None
    small = shrunk(sequence, lambda each: pair.run(each) is not None)
    return small, pair.run(small) or first


def _hunt(pair: Pair, specs: Sequence[CommandSpec], seed: int, end_s: float, found_max: int) -> int:
    seen: set[tuple[str, bytes, bytes]] = set()
    for number, sequence in enumerate(sequences(specs, seed)):
        if time.monotonic() >= end_s or len(seen) >= found_max:
            return number
        found = difference_in(pair, sequence)
        if found is not None:
            small, difference = found
            spec = find_command(list(difference.command))
            kind = (spec.name if spec else "", difference.redis[:1], difference.ours[:24])
            if kind not in seen:
                seen.add(kind)
                print(f"--- sequence {number} of seed {seed}, RESP{small.protocol}")
                print(*[f"    {str(b' '.join(command))[:300]}" for command in small.commands()], sep="\n")
                print(difference, flush=True)
    return 0


def main() -> None:
    """Hunts, and says what was met."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--nodes", type=int, default=1)
    parser.add_argument("--found-max", type=int, default=20)
    parser.add_argument("--only", help="commands or groups, parted by commas", default="")
    parser.add_argument("--skip", help="commands, parted by commas", default="")
    parser.add_argument("--script", action="store_true", help="print the script of each difference")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory, both_servers(Path(directory), options.nodes) as (port, cluster):
        specs = common_specs(port, cluster.ports[0])
        if options.only:
            wanted = options.only.split(",")
            specs = [spec for spec in specs if spec.name in wanted or spec.group in wanted]
        specs = [spec for spec in specs if spec.name not in options.skip.split(",")]
        pair = Pair(port, cluster.ports)
        count = _hunt(pair, specs, options.seed, time.monotonic() + options.seconds, options.found_max)
        print(f"{count} sequences, {sum(pair.tally.calls.values())} commands")
        for deviation, times in pair.tally.excused.items():
            print(f"{times} times: {deviation.text}")
        poor = [spec.name for spec in specs if not pair.tally.fine.get(spec.name)]
        print("no reply but errors:", *poor)
        pair.close()


if __name__ == "__main__":
    main()
