"""Random sequences of all commands that both servers have: a redis-server and ours give the same replies.

A failure prints the shortest sequence that still differs, and a script that reproduces it. The same seed gives the same
sequences; `python -m tests.wire.differential.hunt` looks further, with other seeds.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest

from server.core.commands.spec import CommandSpec
from tests.wire.differential.hunt import both_servers, common_specs, difference_in
from tests.wire.differential.running import Pair
from tests.wire.differential.sequences import sequences
from tests.wire.differential.servers import redis_version
from tests.wire.differential.shrinking import script_of

pytestmark = pytest.mark.skipif(
    redis_version() != "7.0", reason="redis-server 7.0, which all is compared with, is not installed"
)
SEED = 12
SOAK_ROUNDS, SOAK_S = 60, 1200
# Commands whose every reply is an error, with the reason.
ONLY_ERRORS = {"object|freq": "Redis counts accesses only if its eviction policy is one by frequency"}


@pytest.fixture(params=[1, 3], ids=["one node", "three nodes"])
def servers(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Pair, list[CommandSpec]]]:
    """Connections to a Redis and to a cluster of ours, and the commands that both have."""
    with both_servers(tmp_path, request.param) as (redis_port, cluster):
        pair = Pair(redis_port, cluster.ports)
        yield pair, common_specs(redis_port, cluster.ports[0])
        pair.close()
        cluster.assert_logs_clean()


def test_random_sequences_are_answered_as_redis_answers_them(servers: tuple[Pair, list[CommandSpec]]) -> None:
    _run(*servers, SEED, rounds=1)


@pytest.mark.soak
@pytest.mark.timeout(SOAK_S)
def test_many_random_sequences_are_answered_as_redis_answers_them(servers: tuple[Pair, list[CommandSpec]]) -> None:
    _run(*servers, SEED + 1, rounds=SOAK_ROUNDS)


def _run(pair: Pair, specs: list[CommandSpec], seed: int, rounds: int) -> None:
    """Runs `rounds` sequences for each command, and asserts that each command has been answered, not only refused."""
    made = islice(sequences(specs, seed), rounds * len(specs))
    refused = specs
    for again in range(10):  # chance refuses some commands for a while
        for sequence in made:
            found = difference_in(pair, sequence)
            assert found is None, f"{found[1]}\n{script_of(found[0])}"
        refused = [spec for spec in specs if spec.name not in pair.tally.fine and spec.name not in ONLY_ERRORS]
        if not refused:
            return
        made = islice(sequences(specs, seed + 100 * again, refused), 2 * len(refused))
    assert [spec.name for spec in refused] == [], "each call of these has been an error"
