"""Nodes with a port for monitoring, scraped as Prometheus does, and the alerts that fire for what they tell."""

from __future__ import annotations

import shutil
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from tests.ports import free_ports
from tests.sim.promtool import EXPRESSIONS, Samples, fires, judged_by_promtool
from tests.wire.cluster import WireNode, wait_for


class Prometheus:
    """Scrapes some nodes, which are started after this was made."""

    def __init__(self, nodes: Sequence[WireNode], folder: Path) -> None:
        self._ports: dict[WireNode, int] = {}
        self._before: dict[WireNode, Samples] = {}
        self._folder = folder
        for node in nodes:
            self.watch(node)

    def watch(self, node: WireNode) -> None:
        """Gives a node that does not run yet a port for monitoring."""
        self._ports[node] = free_ports(1)
        node._options = [*node._options, "--set", f"metrics=127.0.0.1:{self._ports[node]}"]

    def scrape(self, node: WireNode) -> Samples:
        """What is known of a node: its metrics, and whether it has answered."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._ports[node]}/metrics", timeout=30) as answer:
                text = answer.read().decode()
        except urllib.error.URLError:
            return {("up", (("job", "dyn"),)): 0.0}
        return {("up", (("job", "dyn"),)): 1.0} | {
            (sample.name, tuple(sorted(sample.labels.items()))): float(sample.value)
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def remember(self) -> None:
        """What counters gain from now on is news."""
        self._before = {node: self.scrape(node) for node in self._ports}

    def firing(self, node: WireNode) -> list[str]:
        """The alerts that fire for a node at this moment."""
        samples = self.scrape(node)
        return [alert for alert in EXPRESSIONS if fires(alert, self._before.get(node, {}), samples)]

    def wait_for_alert(self, node: WireNode, alert: str) -> None:
        """Waits until an alert fires for a node; promtool must say so, too, where it is installed."""
        before = self._before.get(node, {})
        last: list[Samples] = []

        def is_firing() -> bool:
            last[:] = [self.scrape(node)]
            return fires(alert, before, last[0])

        wait_for(is_firing, f"{alert} fires for {node.name}")
        if shutil.which("promtool") is not None:
            assert judged_by_promtool(self._folder, alert, before, last[0]) == "1"

    def wait_for_silence(self, node: WireNode, alert: str) -> None:
        """Waits until an alert fires no more."""
        wait_for(lambda: alert not in self.firing(node), f"{alert} ceases for {node.name}")
