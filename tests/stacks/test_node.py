"""Stacks in JavaScript, from their own packages: ioredis, node-redis, connect-redis, rate-limiter-flexible."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.stacks.jobs import Program
from tests.stacks.node import node_program
from tests.stacks.stack import THREADS, Stack, work_in_calm, work_under_faults
from tests.wire.cluster import WireCluster


class NodeStack(Stack):
    """Rounds of a program: one process for each thread."""

    name = ""

    def __init__(self, port: int) -> None:
        command = node_program("rounds.js", self.name, str(port))
        self._programs = [Program(command, {}) for _ in range(THREADS)]

    def round(self, thread: int, number: int) -> None:
        """The program does it."""
        self._programs[thread].ask(f"{thread} {number}")


class Ioredis(NodeStack):
    """ioredis: pipelines, transactions, scripts, messages."""

    packages = ("ioredis",)
    name = "ioredis"


class NodeRedis(NodeStack):
    """node-redis: the same, over RESP3."""

    packages = ("redis",)
    name = "node-redis"


class ConnectRedis(NodeStack):
    """express-session on connect-redis, through whole requests."""

    packages = ("connect-redis", "express-session")
    name = "connect-redis"


class RateLimiterFlexible(NodeStack):
    """rate-limiter-flexible, through both clients."""

    packages = ("rate-limiter-flexible",)
    name = "rate-limiter-flexible"


KINDS = [Ioredis, NodeRedis, ConnectRedis, RateLimiterFlexible]


@pytest.mark.parametrize("kind", KINDS)
def test_it_works(cluster: WireCluster, kind: type[Stack]) -> None:
    work_in_calm(kind(cluster.ports[0]))


@pytest.mark.parametrize("kind", KINDS)
def test_it_works_while_nodes_fail(make_cluster: Callable[..., WireCluster], kind: type[Stack]) -> None:
    cluster = make_cluster()
    work_under_faults(cluster, kind(cluster.ports[0]))
