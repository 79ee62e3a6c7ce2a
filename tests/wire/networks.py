"""Networks that can be cut: each node in a network namespace of its own, a router between them, this process outside.

Theory. A cut is a rule of the router that drops, without a word, what one node sends to another: connections stay open
and silent, as they do when a switch dies. The test itself keeps its way to every node, as a client on the same side of
the cut would have. All names carry this process' number, so that only what was made here is taken down.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.ports import own_block
from tests.wire.cluster import Host, WireCluster


class Networks:
    """A star of namespaces around a router, 198.18.x.2 each: a range that is set aside for tests (RFC 2544)."""

    def __init__(self, nodes: int) -> None:
        self._tag = f"dyn{os.getpid()}"
        self._router = f"{self._tag}-router"
        self._nodes = [f"{self._tag}-n{number}" for number in range(1, nodes + 1)]
        base = own_block() * 12  # who tests at the same time has other addresses
        self._subnets = [f"198.18.{base + place}" for place in range(nodes + 1)]  # the last one leads to this process
        self._cut: set[tuple[str, str]] = set()  # sender and receiver

    @property
    def hosts(self) -> list[Host]:
        """Where the nodes of a cluster are to run."""
        return [
            Host(f"{subnet}.2", ("ip", "netns", "exec", name))
            for name, subnet in zip(self._nodes, self._subnets, strict=False)
        ]

    @property
    def outside(self) -> str:
        """The address by which this process reaches the nodes."""
        return f"{self._subnets[-1]}.2"

    def make(self) -> None:
        """Raises NotPermitted where the machine does not allow it."""
        _ip("netns", "add", self._router)
        _run("ip", "netns", "exec", self._router, "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")
        _ip("-n", self._router, "link", "set", "lo", "up")
        for name, subnet in zip(self._nodes, self._subnets, strict=False):
            _ip("netns", "add", name)
            _ip("link", "add", "eth0", "netns", name, "type", "veth", "peer", "name", name[3:], "netns", self._router)
            self._address(["-n", self._router], name[3:], f"{subnet}.1")
            self._address(["-n", name], "eth0", f"{subnet}.2")
            _ip("-n", name, "link", "set", "lo", "up")
            _ip("-n", name, "route", "add", "default", "via", f"{subnet}.1")
        outside = self._subnets[-1]
        _ip("link", "add", self._tag, "type", "veth", "peer", "name", "outside", "netns", self._router)
        self._address(["-n", self._router], "outside", f"{outside}.1")
        self._address([], self._tag, f"{outside}.2")
        for subnet in self._subnets[:-1]:
            _ip("route", "add", f"{subnet}.0/24", "via", f"{outside}.1")

    def isolate(self, alone: Sequence[Host]) -> None:
        """From now on each of these nodes is cut off from all others, and nobody else is: none heals all."""
        self._cut_pairs(
            {
                (one.address, other.address)
                for one in self.hosts
                for other in self.hosts
                if one != other and (one in alone or other in alone)
            }
        )

    def split(self, side: Sequence[Host]) -> None:
        """From now on these nodes are cut off from the others, but not from each other."""
        self._cut_pairs(
            {
                (one.address, other.address)
                for one in self.hosts
                for other in self.hosts
                if (one in side) != (other in side)
            }
        )

    def _cut_pairs(self, wanted: set[tuple[str, str]]) -> None:
        """Cuts these, senders and receivers, and no others."""
        for doing, pairs in (("del", self._cut - wanted), ("add", wanted - self._cut)):
            for sender, receiver in sorted(pairs):
                _ip("-n", self._router, "rule", doing, "from", sender, "to", receiver, "blackhole")
        self._cut = wanted

    def remove(self) -> None:
        """Takes down what was made, as far as it was. The links go with their namespaces."""
        for name in (self._router, *self._nodes):
            subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)

    def _address(self, where: Sequence[str], device: str, address: str) -> None:
        _ip(*where, "address", "add", f"{address}/24", "dev", device)
        _ip(*where, "link", "set", device, "up")


class NotPermitted(Exception):
    """This machine does not let us make networks; the message says what it said."""


@contextmanager
def networks(nodes: int) -> Iterator[Networks]:
    """Networks that live within. Raises NotPermitted."""
    made = Networks(nodes)
    try:
        made.make()
        yield made
    finally:
        made.remove()


@contextmanager
def cut_cluster(
    directory: Path, nodes: int, config: str = "", spare: int = 0
) -> Iterator[tuple[WireCluster, Networks]]:
    """A healthy cluster, each node of which is in a network namespace of its own; there are `spare` more of them, the last
    ones, for nodes to come. Skips the test where that cannot be."""
    try:
        with networks(nodes + spare) as made:
            open_to_all = "protected_mode = false\n"  # this process is a client from elsewhere
            cluster = WireCluster(directory, nodes, config=open_to_all + config, hosts=made.hosts[:nodes])
            try:
                cluster.form()
                yield cluster, made
            finally:
                cluster.dispose()
            cluster.assert_logs_clean()
    except NotPermitted as error:
        pytest.skip(f"this machine lets us make no networks: {error}")


def _ip(*words: str) -> None:
    _run("ip", *words)


def _run(*words: str) -> None:
    try:
        subprocess.run(words, capture_output=True, text=True, check=True)
    except FileNotFoundError as error:
        raise NotPermitted(f"{words[0]} is not installed") from error
    except subprocess.CalledProcessError as error:
        raise NotPermitted(f"{' '.join(words)}: {error.stderr.strip()}") from error
