"""Faults at random: nodes that are killed, stopped, frozen, cut off, brought back, and one whose data is wiped.

Theory. Each node is either fine or in some kind of trouble, and every step of the storm changes one node: a fine one gets
into trouble, one in trouble is brought back. Which node and which kind is a seeded choice, so that a storm can
be made again; its times are the machine's. Any number of nodes may be in trouble at once, for no crash of any number of
nodes may lose what was acknowledged. The disk that is wiped is wiped once, when all nodes run, none in trouble: a write
that fewer than W nodes have lost their disk for is not lost, but a node that has just missed it has nothing to tell.
"""

from __future__ import annotations

import enum
import random
import shutil
import threading
import time
from dataclasses import dataclass, field

from tests.wire.cluster import WireCluster, WireNode, wait_for
from tests.wire.networks import Networks

PAUSE_S_MIN = 0.1
PAUSE_S_MAX = 1.0
IN_TROUBLE_MAX_OF = 2  # at most one node in so many, rounded up


class Trouble(enum.Enum):
    """What a node can be in."""

    KILLED = "killed"
    STOPPED = "stopped"
    FROZEN = "frozen"
    CUT = "cut off"  # from all other nodes, but not from its clients; only where there are networks to cut


@dataclass
class Storm:
    """Troubles the nodes of a cluster for a while."""

    cluster: WireCluster
    seed: int
    networks: Networks | None = None
    troubles: dict[str, Trouble] = field(default_factory=dict)
    told: list[str] = field(default_factory=list)

    def rage(self, duration_s: float) -> None:
        """Troubles nodes for so long, wipes one of them half-way, and leaves all of them running."""
        rng = random.Random(self.seed)
        pause = threading.Event()
        begin = time.monotonic()
        wiped = False
        while (passed := time.monotonic() - begin) < duration_s:
            if not wiped and passed > duration_s / 2:
                self._all_fine()
                self._wipe(rng.choice(self.cluster.nodes))
                wiped = True
            self._step(rng)
            pause.wait(rng.uniform(PAUSE_S_MIN, PAUSE_S_MAX))
        self._all_fine()
        assert wiped

    def _step(self, rng: random.Random) -> None:
        node = rng.choice(self.cluster.nodes)
        if node.name in self.troubles:
            self._bring_back(node)
        elif len(self.troubles) * IN_TROUBLE_MAX_OF < len(self.cluster.nodes):
            kinds = [kind for kind in Trouble if kind is not Trouble.CUT or self.networks is not None]
            self._trouble(node, rng.choice(kinds))

    def _trouble(self, node: WireNode, trouble: Trouble) -> None:
        self.told.append(f"{node.name} {trouble.value}")
        self.troubles[node.name] = trouble
        if trouble is Trouble.KILLED:
            node.kill()
        elif trouble is Trouble.STOPPED:
            assert node.stop() == 0
        elif trouble is Trouble.CUT and self.networks is not None:
            self._isolate(self.networks)
        else:
            node.freeze()

    def _bring_back(self, node: WireNode) -> None:
        self.told.append(f"{node.name} back")
        trouble = self.troubles.pop(node.name)
        if trouble is Trouble.FROZEN:
            node.thaw()
        elif trouble is Trouble.CUT and self.networks is not None:
            self._isolate(self.networks)
        else:
            node.start()
            wait_for(node.serves, f"{node.name} serves again")

    def _isolate(self, networks: Networks) -> None:
        names = [name for name, trouble in self.troubles.items() if trouble is Trouble.CUT]
        networks.isolate([node.host for node in self.cluster.nodes if node.name in names])

    def _all_fine(self) -> None:
        for node in self.cluster.nodes:
            if node.name in self.troubles:
                self._bring_back(node)

    def _wipe(self, node: WireNode) -> None:
        """kill -9, and another disk."""
        self.told.append(f"{node.name} wiped")
        node.kill()
        shutil.rmtree(node.directory / "data")
        node.start()
        wait_for(node.serves, f"{node.name} serves again")
