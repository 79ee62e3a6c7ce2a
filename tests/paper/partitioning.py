"""The Dynamo paper's three ways to partition the ring, and ours: how even each is, for how much metadata (figure 8).

Section 6.2 (SOSP 2007) compares the load balancing efficiency of three strategies at S=30 nodes and N=3, with the same
amount of membership data at each node. Efficiency is the mean number of requests of a node over that of the hottest node.

1. T random tokens a node, partitions between tokens: an entry for each of the S*T tokens.
2. T random tokens a node, Q equal partitions, each on the first N nodes after its end: an entry for each token, and one
   for each partition. The paper asks for Q much above S*T and does not say how much; here it is `PARTITIONS_A_TOKEN`.
3. Q/S tokens a node, Q equal partitions: an entry for each partition. The assignment of partitions to nodes is random.

Our strategy also has Q equal partitions, but names the N owners of each: N entries a partition. It is plotted at that
size, so it has a third of the partitions of strategy 3 at the same size. The cluster grows node by node from 3 to 30.

The paper's units are abstract, and it does not give its mix of requests. Here keys are uniform and countless, so the load
of a node is the part of the ring of which it is an owner. Everything is seeded. `partitioning_plot` writes the table and
the plot beside this file.
"""

from __future__ import annotations

import random
from bisect import bisect_left
from collections.abc import Callable, Sequence
from statistics import fmean

from server.core.ring.assignment import assign
from server.core.ring.layout import Member
from server.core.ring.reassignment import Owners, reassign

NODES = 30  # S
N = 3
SEEDS = range(10)
PARTITIONS_A_TOKEN = 4  # of strategy 2: Q / (S * T)
SIZES = [960, 1920, 3840, 7680, 15360, 30720]  # entries of metadata; the paper's axis ends at 35,000
OURS_PARTITIONS = [128, 256, 512, 1024, 2048]

Ring = Sequence[int]  # the node of each token, around the ring


def successors(ring: Ring, start: int) -> list[int]:
    """The first N distinct nodes from the token `start` on."""
    found: list[int] = []
    while len(found) < N:
        node = ring[start % len(ring)]
        if node not in found:
            found.append(node)
        start += 1
    return found


def efficiency(loads: Sequence[float]) -> float:
    """The paper's load balancing efficiency: 1.0 if all nodes have the same load."""
    return fmean(loads) / max(loads)


def random_tokens(count: int, rng: random.Random) -> tuple[list[float], list[int]]:
    """`count` tokens for each node, in order: their positions on a ring of length 1, and their nodes."""
    tokens = sorted((rng.random(), node) for node in range(NODES) for _ in range(count))
    return [position for position, _ in tokens], [node for _, node in tokens]


def strategy_1(size: int, rng: random.Random) -> float:
    """The efficiency of strategy 1: keys between two tokens belong to the later one, and to the nodes after it."""
    positions, ring = random_tokens(size // NODES, rng)
    loads = [0.0] * NODES
    for index, position in enumerate(positions):
        width = position - positions[index - 1] if index else position + 1 - positions[-1]
        for node in successors(ring, index):
            loads[node] += width
    return efficiency(loads)


def strategy_2(size: int, rng: random.Random) -> float:
    """The efficiency of strategy 2: equal partitions belong to the nodes of the first tokens after their ends."""
    tokens = max(1, round(size / (1 + PARTITIONS_A_TOKEN) / NODES))
    positions, ring = random_tokens(tokens, rng)
    partitions = size - tokens * NODES
    loads = [0.0] * NODES
    for partition in range(partitions):
        for node in successors(ring, bisect_left(positions, (partition + 1) / partitions)):
            loads[node] += 1
    return efficiency(loads)


def strategy_3(size: int, rng: random.Random) -> float:
    """The efficiency of strategy 3: each node has Q/S random partitions; the other owners follow on the ring."""
    ring = [node for node in range(NODES) for _ in range(size // NODES)]
    rng.shuffle(ring)
    loads = [0.0] * NODES
    for partition in range(len(ring)):
        for node in successors(ring, partition):
            loads[node] += 1
    return efficiency(loads)


def grown(partitions: int) -> Owners:
    """The owners by our strategy, after 27 nodes have joined a cluster of three."""
    members = [Member(f"m{i:02}", f"n{i}", f"127.0.0.1:{7001 + i}", "", 1) for i in range(NODES)]
    owners = assign(members[:N], partitions, N)
    for count in range(N + 1, NODES + 1):
        owners = reassign(owners, members[:count], N)
    return owners


def ours(partitions: int) -> float:
    """The efficiency of our strategy after the growth."""
    loads = [0.0] * NODES
    for row in grown(partitions):
        for owner in row:
            loads[int(owner[1:])] += 1
    return efficiency(loads)


def best_possible(partitions: int) -> float:
    """The best possible efficiency: the hottest node has at least the mean number of partitions, rounded up."""
    return N * partitions / NODES / -(-N * partitions // NODES)


Curve = list[tuple[int, float]]  # (entries of metadata, efficiency)
Strategy = Callable[[int, random.Random], float]
STRATEGIES: dict[str, Strategy] = {"strategy 1": strategy_1, "strategy 2": strategy_2, "strategy 3": strategy_3}


def random_curve(strategy: Strategy, sizes: Sequence[int] = SIZES) -> Curve:
    """The mean efficiency over the seeds, at every size."""
    return [(size, fmean(strategy(size, random.Random(seed)) for seed in SEEDS)) for size in sizes]


def our_curve(partitions: Sequence[int] = OURS_PARTITIONS) -> Curve:
    """The efficiency of our strategy, at N entries of metadata a partition."""
    return [(N * count, ours(count)) for count in partitions]
