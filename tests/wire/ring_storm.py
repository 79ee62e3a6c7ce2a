"""Faults and changes of members at random: one node at a time is in trouble, while others come, go and take over.

Theory. A step of the storm troubles a fine node, brings back the one in trouble, or makes a change as an operator would; so
changes are committed on top of changes that are not over, and their nodes are killed in the middle of them. All choices are
seeded. n1 and n2 stay members throughout, for the clients ask them, and may be in trouble like any other.

A node is only removed when everybody has all that it owns: it dies in that very moment, and so there is always another
copy. That is an operator's duty, too: who removes two owners of a partition at once loses what they alone have.
"""

from __future__ import annotations

import json
import random
import threading
import time
from dataclasses import dataclass, field
from typing import Any

import redis

from tests.wire.cluster import WireCluster, WireNode, wait_for
from tests.wire.repairs import wait_delivered
from tests.wire.ring_changes import wait_settled
from tests.wire.storm import Trouble

PAUSE_S_MIN = 0.05
STAYING = 2  # so many of the first nodes never leave
MEMBERS_MIN, MEMBERS_MAX = 3, 6
KINDS = ("join", "leave", "replace", "weight", "remove")
TROUBLES = (Trouble.KILLED, Trouble.STOPPED, Trouble.FROZEN)


@dataclass
class RingStorm:
    """Troubles and changes a cluster for a while. `members` are those that are to be members when all is over."""

    cluster: WireCluster
    seed: int
    pause_s_max: float = 0.5  # between two steps; after some seconds the others hold a node in trouble for down
    members: list[WireNode] = field(default_factory=list)
    leavers: list[WireNode] = field(default_factory=list)
    in_trouble: WireNode | None = None
    trouble: Trouble = Trouble.KILLED
    told: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.members = list(self.cluster.nodes)
        self._random = random.Random(self.seed)

    @property
    def epoch(self) -> int:
        """That of the latest commit, in the eyes of a node that is well."""
        return int(self._operator().document("DYN.CLUSTER", "STATUS")["epoch"])

    def rage(self, duration_s: float) -> None:
        """Makes random steps for so long, and at least one change of each kind; leaves all nodes running."""
        pause = threading.Event()
        deadline = time.monotonic() + duration_s
        due = list(KINDS)
        self._random.shuffle(due)
        while time.monotonic() < deadline or due:
            if self._random.random() < 0.5:
                self._trouble_step()
            else:
                self.change(due.pop() if due else self._random.choice(KINDS))
            pause.wait(self._random.uniform(PAUSE_S_MIN, self.pause_s_max))
        self.all_fine()

    def all_fine(self) -> None:
        """Nobody is in trouble any more."""
        if self.in_trouble is not None:
            self._bring_back()

    def settle(self) -> None:
        """Waits until all changes are over; who has left ends."""
        wait_settled(self.members, self.epoch)
        self.cluster.forget(*self.leavers)
        self.leavers.clear()
        self.cluster.wait_healthy()

    # --- trouble

    def _trouble_step(self) -> None:
        if self.in_trouble is not None:
            self._bring_back()
            return
        node = self._random.choice([*self.members, *self.leavers])
        self.in_trouble, self.trouble = node, self._random.choice(TROUBLES)
        self.told.append(f"{node.name} {self.trouble.value}")
        if self.trouble is Trouble.KILLED:
            node.kill()
        elif self.trouble is Trouble.STOPPED:
            assert node.stop() == 0
        else:
            node.freeze()

    def _bring_back(self) -> None:
        node, self.in_trouble = self.in_trouble, None
        assert node is not None
        self.told.append(f"{node.name} back")
        if self.trouble is Trouble.FROZEN:
            node.thaw()
        else:
            node.start()
            wait_for(node.serves, f"{node.name} serves again")

    # --- changes

    def change(self, kind: str) -> None:
        """Stages a change of this kind, or the opposite one where the cluster is too large or too small, and commits it."""
        if kind == "join" and len(self.members) >= MEMBERS_MAX:
            kind = "leave"
        elif kind in ("leave", "remove") and len(self.members) <= MEMBERS_MIN:
            kind = "join"
        if kind == "remove":
            self._remove()
            return
        victim = self._random.choice(self.members[STAYING:])
        if kind == "join":
            self.members.append(self.cluster.add())
            self._make("JOIN", _identity(self.members[-1]))
        elif kind == "leave":
            self._let_leave(victim)
            self._make("LEAVE", victim.name)
        elif kind == "replace":
            new = self.cluster.add()
            self._let_leave(victim)
            self.members.append(new)
            self._make("REPLACE", victim.name, _identity(new))
        else:
            self._make("WEIGHT", victim.name, str(self._another_weight(victim.name)))

    def _another_weight(self, name: str) -> int:
        """A weight that the node does not have: the same one would be refused."""
        nodes = self._operator().document("DYN.RING", "SHOW")["nodes"]
        present = [node["weight"] for node in nodes if node["name"] == name]
        return self._random.choice([weight for weight in (1, 2, 3) if weight not in present])

    def _remove(self) -> None:
        """A node dies for good, at a time when all that it has is with others, too."""
        self.all_fine()
        self.settle()
        wait_delivered(self.cluster)
        victim = self._random.choice(self.members[STAYING:])
        victim.kill()
        operator = self._operator()
        wait_for(lambda: operator.states()[victim.name] == "down", f"{victim.name} is known to be dead")
        self.members.remove(victim)
        self.cluster.forget(victim)
        self._make("REMOVE", victim.name)

    def _let_leave(self, node: WireNode) -> None:
        self.members.remove(node)
        self.leavers.append(node)

    def _operator(self) -> WireNode:
        """A node that is well."""
        return next(node for node in self.members if node is not self.in_trouble)

    def _make(self, *words: str) -> None:
        """Stages a change and commits it, at a node that is well."""
        with self._operator().client() as client:
            self.told.append(" ".join((words[0].lower(), self.members[-1].name if words[0] == "JOIN" else words[1])))
            client.execute_command("DYN.CLUSTER", *words)
            _ask_until_told(client, "COMMIT", str(_plan_epoch(client)))


def _identity(node: WireNode) -> str:
    with node.client() as client:
        return str(client.execute_command("DYN.CLUSTER", "MYSELF").decode())


def _plan_epoch(client: Any) -> int:
    """The epoch to commit."""
    return int(json.loads(_ask_until_told(client, "PLAN"))["epoch"])


def _ask_until_told(client: Any, *words: str) -> bytes:
    """The answer to a command. Who asks while the layout changes, or before all have adopted it, is told to ask again."""
    while True:
        try:
            answer: bytes = client.execute_command("DYN.CLUSTER", *words)
            return answer
        except redis.ResponseError as error:
            if "ask again" not in str(error) and "commit again" not in str(error):
                raise
