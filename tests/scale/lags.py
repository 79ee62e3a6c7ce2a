"""How late the loops of a cluster were while a job ran, and what is known of the cause.

Theory. A node answers PING by itself, in the next turn. So the worst PING among hundreds a second is the longest time for
which its loop did something else, as a client sees it. The node's own `loop_lag_ms` sees only what falls on one of its
ticks, ten a second. The generator that sends the PINGs may be late itself; its lateness is subtracted from nothing, but
shown.

The causes are those that a node measures: the longest garbage collection, the slowest commits and syncs, the slowest
command.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from tests.scale.clusters import addresses
from tests.scale.figures import percentile, shown
from tests.scale.generator import Samples, ask, loading
from tests.scale.requests import PING, Address, Mix, Work
from tests.wire.cluster import WireCluster

PINGS_PER_S = 300  # of each node
POLL_S = 0.5


@dataclass
class Lags:
    """What was seen of the nodes that were there at the beginning."""

    names: list[str]
    pings: Samples = field(default_factory=Samples)
    loop_lag_ms: dict[str, int] = field(default_factory=dict)
    causes: dict[str, str] = field(default_factory=dict)

    def worst_ms(self) -> dict[str, float]:
        """The worst PING by node."""
        return {name: percentile(self.pings.all(f"{PING} {place}"), 100) for place, name in enumerate(self.names)}

    def cells(self) -> list[str]:
        """The node whose loop was late by the most, by PING: the time, its name, its own measure, all p99.9, the cause."""
        worst_ms = {name: ms for name, ms in self.worst_ms().items() if ms == ms}
        if not worst_ms:
            return ["", "", "", "", "no node answered"]
        name = max(worst_ms, key=lambda each: worst_ms[each])
        return [
            shown(percentile(self.pings.all(), 99.9)),
            shown(worst_ms[name]),
            name,
            str(max(self.loop_lag_ms.values(), default=0)),
            self.causes.get(name, ""),
        ]


@contextmanager
def watched(cluster: WireCluster) -> Iterator[Lags]:
    """Watches the present nodes within."""
    names, places = [node.name for node in cluster.nodes], addresses(cluster.nodes)
    lags, ended = Lags(names), threading.Event()
    for place in places:
        ask(place, b"CONFIG", b"RESETSTAT")
        ask(place, b"SLOWLOG", b"RESET")
    poller = threading.Thread(target=_poll, args=(lags, dict(zip(names, places, strict=True)), ended))
    work = Work(places, 1, Mix(1), PINGS_PER_S * len(places), connections=len(places), pings=True)
    poller.start()
    try:
        with loading(work) as pings:
            yield lags
        lags.pings = pings
    finally:
        ended.set()
        poller.join()
    for name, place in zip(names, places, strict=True):
        lags.causes[name] = _cause(place)


def _poll(lags: Lags, places: dict[str, Address], ended: threading.Event) -> None:
    while not ended.wait(POLL_S):
        for name, place in places.items():
            try:
                late_ms = int(fact(ask(place, b"INFO", b"stats").decode(), "loop_lag_ms"))
            except (OSError, ConnectionError):
                continue  # it is frozen or dead on purpose
            lags.loop_lag_ms[name] = max(lags.loop_lag_ms.get(name, 0), late_ms)


def fact(info: str, name: str) -> str:
    """A field of INFO; 0 if it is not there."""
    return next((line.partition(":")[2] for line in info.splitlines() if line.startswith(f"{name}:")), "0")


def _cause(place: Address) -> str:
    """What a node has measured of itself since CONFIG RESETSTAT."""
    found = [f"collection of garbage {fact(ask(place, b'INFO', b'stats').decode(), 'gc_ms_max')} ms"]
    doctor = ask(place, b"LATENCY", b"DOCTOR").decode()
    for phase in ("commit", "sync"):
        times = re.search(rf"- {phase}: .* p99 (\d+) us", doctor)
        if times:
            found.append(f"{phase} p99 {int(times[1]) / 1000:.1f} ms")
    slow = sorted(ask(place, b"SLOWLOG", b"GET", b"-1"), key=lambda each: int(each[2]))
    if slow:
        found.append(f"slowest command {slow[-1][3][0].decode(errors='replace')} {slow[-1][2] / 1000:.0f} ms")
    return ", ".join(found)
