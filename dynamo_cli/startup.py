"""Waits until started processes are a ready cluster.

A cluster is ready when every node has said so itself: it answers, it has the layout, and it sees all nodes of the
directory up and every key served. Repairs may still go on for long, so a cluster that is degraded for no other reason is
ready. Members that joined later run elsewhere and are not waited for. A node of this directory that has left the cluster
is not waited for either. Meanwhile the command watches the processes: if a node ends, the wait ends at once and shows the
end of its log.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from dynamo_cli import processes
from dynamo_cli.addresses import Address
from dynamo_cli.client import Client
from dynamo_cli.cluster_file import LocalCluster
from dynamo_cli.failures import Failure, Refused
from dynamo_cli.layout import LayoutOptions, identity, make_layout
from dynamo_cli.logins import local_login
from dynamo_cli.processes import NodeProcess
from dynamo_cli.stop_signals import StopSignals

POLL_INTERVAL_S = 0.05
_HAS_LEFT = "has left its cluster"  # in the error of a node that is no member any more
ASK_TIMEOUT_S = 4.0  # a status waits three seconds for members that do not answer


class Startup:
    """Waits until a cluster is ready. It ends at once if a node ends or a signal comes."""

    def __init__(
        self, cluster: LocalCluster, running: Sequence[NodeProcess], signals: StopSignals, wait_s: float
    ) -> None:
        self._cluster = cluster
        self._processes = {process.name: process for process in running}
        self._names = {node.address: node.name for node in cluster.nodes}
        self._directories = {node.address: cluster.node_directory(node) for node in cluster.nodes}
        self._signals = signals
        self._wait_s = wait_s
        self.left: list[str] = []  # the names of nodes that have left the cluster
        self._deadline = time.monotonic() + wait_s

    def run(self) -> None:
        """Returns when every node answers, has a layout, and sees all nodes of the directory up. Raises Failure.

        If no node has a layout yet, it makes the first one.
        """
        self._each_node(_ping)
        addresses = [node.address for node in self._cluster.nodes]
        known = [self._identity(address) for address in addresses]
        self.left = [str(node["name"]) for node in known if node.get("left") and not node["epoch"]]
        if not any(node["epoch"] for node in known):
            self._refuse_left()
            make_layout(addresses, LayoutOptions(), self._connect, self._pause)
        self._each_node(self._not_ready)

    def _each_node(self, question: Callable[[Client], str | None]) -> None:
        """Asks each node until the answer is None, which means that there is no problem."""
        for node in self._cluster.nodes:
            while (problem := self._ask(node.address, question)) is not None:
                self._pause(node.address, problem)
        self._check()

    def _ask(self, address: Address, question: Callable[[Client], str | None]) -> str | None:
        try:
            with self._connect(address) as client:
                return question(client)
        except Failure as failure:
            return failure.message

    def _identity(self, address: Address) -> dict[str, Any]:
        with self._connect(address) as client:
            return identity(client)

    def _refuse_left(self) -> None:
        """Refuses to make a new cluster at the addresses of an old one: its clients would find an empty cluster."""
        if self.left:
            directory = self._cluster.directory
            raise Failure(
                f"{' '.join(self.left)} left their cluster, which runs elsewhere: there is nothing to run in {directory}",
                "start a new cluster in a new directory: dyn up --dir OTHER",
            )

    def _not_ready(self, client: Client) -> str | None:
        try:
            status = client.document("DYN.CLUSTER", "STATUS")
        except Refused as refused:
            if _HAS_LEFT in refused.reply:
                return None
            raise
        here = self._names.values()
        nodes = [node for node in status.get("nodes", []) if node.get("state") != "up" and node.get("name") in here]
        if status.get("verdict") in ("healthy", "degraded") and not nodes:
            return None
        return f"{status.get('verdict')}: {status.get('summary')}"

    def _connect(self, address: Address) -> Client:
        timeout_s = max(POLL_INTERVAL_S, min(ASK_TIMEOUT_S, self._deadline - time.monotonic()))
        return Client(address, timeout_s, login=lambda: local_login(self._directories[address]))

    def _pause(self, address: Address, problem: str) -> None:
        pidfds = [process.pidfd for process in self._processes.values()]
        processes.wait_any([self._signals.descriptor, *pidfds], POLL_INTERVAL_S)
        self._check()
        if time.monotonic() >= self._deadline:
            self._fail(self._names[address], f"was not ready within {self._wait_s:g} s: {problem}")

    def _check(self) -> None:
        if self._signals.requested:
            raise Failure("interrupted before the cluster was ready; what was started is stopped again")
        for name, process in self._processes.items():
            if process.has_ended():
                self._fail(name, f"ended before the cluster was ready: {process.exit_text()}")

    def _fail(self, name: str, what: str) -> None:
        process = self._processes[name]
        address = next(address for address, its_name in self._names.items() if its_name == name)
        tail = process.log_tail()
        shown = "".join(f"\n    {line}" for line in tail) if tail else " (nothing)"
        raise Failure(f"{name} ({address}) {what}\nlast lines of {process.log}:{shown}")


def _ping(client: Client) -> str | None:
    reply = client.call("PING")
    return None if reply == b"PONG" else f"it answered PING with {reply!r}"
