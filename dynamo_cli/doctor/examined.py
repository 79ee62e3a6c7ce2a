"""What the checks of `dyn doctor` look at, and what they find."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

ERROR, WARNING, NOTE, UNKNOWN = "error", "warning", "note", "unknown"
SEVERITIES = (ERROR, WARNING, NOTE, UNKNOWN)  # the worst first; only the first two change the exit status


class Finding(NamedTuple):
    """What a check has found at these nodes, and what to do about it."""

    severity: str
    nodes: tuple[str, ...]
    text: str
    advice: str


@dataclass(slots=True)
class Examined:
    """One member: its row in the status, and its own facts (DYN.STATS); without facts, why there are none."""

    name: str
    address: str
    row: dict[str, Any] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    trouble: str = ""

    def get(self, name: str, kind: type | tuple[type, ...]) -> Any:
        """A fact of that type; None if the node does not tell it."""
        value = self.facts.get(name)
        return value if isinstance(value, kind) else None

    def setting(self, name: str) -> Any:
        """A setting of the node; None if it does not tell it."""
        settings = self.get("settings", dict) or {}
        return settings.get(name)


@dataclass(slots=True)
class Cluster:
    """All that was asked: the documents of `dyn cluster status` and `dyn ring show`, and the members by name."""

    status: dict[str, Any]
    ring: dict[str, Any]
    nodes: list[Examined]

    def by(self, fact: Callable[[Examined], Any]) -> dict[Any, list[str]]:
        """The names of the nodes by a fact, without those that do not tell it."""
        found: dict[Any, list[str]] = {}
        for node in self.nodes:
            if (value := fact(node)) is not None:
                found.setdefault(value, []).append(node.name)
        return found


Check = Callable[[Cluster], Iterator[Finding]]


def told(groups: dict[Any, list[str]]) -> str:
    """Groups of nodes in words: `always on n1, n2; no on n3`."""
    return "; ".join(f"{value} on {', '.join(names)}" for value, names in groups.items())
