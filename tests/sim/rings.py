"""Which layout lay on which disk, and when: what P6, P8 and P9 are judged by.

Theory. Nodes learn of a change at different times, so "the owners of a key" is a question about a node and a moment: by
the layout on its own disk. Of all layouts that lie on disks at a moment the one of the highest version *rules*: who is no
member by it is *gone*, whether it knows that or not, and what it says and holds is no member's any more.

P9, as far as one disk tells it: what a node stores is a higher version than what it had, unless its disk was hurt.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from server.core.records.records import storage_key_of
from server.core.ring.layout import Layout
from tests.sim.disk import Cause, Disk

Row = tuple[str, ...]


class View(NamedTuple):
    """Who keeps a key, and who of them holds all of its partition, by the layout on some disk."""

    keepers: Row
    readers: Row


class Ring(Protocol):
    """Who keeps a key, by time."""

    def views(self, key: bytes, node: str, step: int) -> list[View]:
        """By the layouts on the disk of `node` just before a step and after it; none where it had none before."""

    def rows(self, key: bytes, from_step: int, to_step: int) -> list[Row]:
        """All rows of keepers that lay on the disks of members at any time between these steps."""

    def quorum_rows(self, key: bytes, from_step: int, to_step: int) -> list[tuple[Row, Row]]:
        """Who is asked for a key, and who will be or was, if it moves: by each of the layouts on any disk in that time."""

    def is_gone(self, node: str, step: int) -> bool:
        """Whether `node` is no member by the layout that ruled then."""

    def has_kept(self, key: bytes, node: str, from_step: int, to_step: int) -> bool:
        """Whether `node` was a keeper at any time between these steps, by its own disk."""


class FixedRing:
    """A ring that never changes."""

    def __init__(self, owners_of: Callable[[bytes], Sequence[str]]) -> None:
        self._owners_of = owners_of

    def views(self, key: bytes, node: str, step: int) -> list[View]:
        """The owners."""
        return [View(tuple(self._owners_of(key)), tuple(self._owners_of(key)))]

    def rows(self, key: bytes, from_step: int, to_step: int) -> list[Row]:
        """One."""
        return [tuple(self._owners_of(key))]

    def quorum_rows(self, key: bytes, from_step: int, to_step: int) -> list[tuple[Row, Row]]:
        """One."""
        return [(tuple(self._owners_of(key)), ())]

    def is_gone(self, node: str, step: int) -> bool:
        """Nobody goes."""
        return False

    def has_kept(self, key: bytes, node: str, from_step: int, to_step: int) -> bool:
        """The owners have."""
        return node in self._owners_of(key)


class Rings:
    """The layouts of a run, out of the logs of the disks."""

    def __init__(self, disks: Sequence[Disk]) -> None:
        self.faults: list[str] = []
        self._decoded: dict[bytes, Layout] = {}
        self._steps: dict[str, list[int]] = {}
        self._layouts: dict[str, list[Layout | None]] = {}
        self._rules: list[tuple[int, Layout]] = []  # from which step on
        self._slots: dict[bytes, int] = {}
        moves = []
        for disk in disks:
            self._steps[disk.node], self._layouts[disk.node] = [], []
            moves += [(step, disk.node, document, cause) for step, document, cause in disk.layouts]
        for step, node, document, cause in sorted(moves, key=lambda move: move[0]):
            self._note(step, node, document, cause)

    def _note(self, step: int, node: str, document: bytes | None, cause: Cause) -> None:
        layout = None if document is None else self._decode(document)
        layouts = self._layouts[node]
        before = layouts[-1] if layouts and cause is Cause.COMMIT else None
        if layout is not None and before is not None and not layout.wins_over(before):
            self.faults.append(f"{node} went from layout {before.version} to {layout.version} at step {step}")
        self._steps[node].append(step)
        layouts.append(layout)
        if layout is not None and (not self._rules or layout.wins_over(self._rules[-1][1])):
            self._rules.append((step, layout))

    def _decode(self, document: bytes) -> Layout:
        layout = self._decoded.get(document)
        if layout is None:
            layout = self._decoded[document] = Layout.decode(document)
        return layout

    @property
    def all(self) -> list[Layout]:
        """All layouts that there have ever been."""
        return list(self._decoded.values())

    def _keepers(self, layout: Layout, key: bytes) -> Row:
        return layout.keepers(layout.partition_of(self._slot(key)))

    def _slot(self, key: bytes) -> int:
        slot = self._slots.get(key)
        if slot is None:
            slot = self._slots[key] = int.from_bytes(storage_key_of(key)[:2], "big")
        return slot

    def _at(self, node: str, step: int) -> Layout | None:
        steps = self._steps.get(node, [])
        place = bisect_right(steps, step)
        return self._layouts[node][place - 1] if place else None

    def views(self, key: bytes, node: str, step: int) -> list[View]:
        """See Ring."""
        before, after = self._at(node, step - 1), self._at(node, step)
        layouts = [before] if before is not None else []
        layouts += [after] if before is not None and after is not None and after is not before else []
        slot = self._slot(key)
        return [View(self._keepers(each, key), each.readers(each.partition_of(slot))) for each in layouts]

    def rows(self, key: bytes, from_step: int, to_step: int) -> list[Row]:
        """See Ring."""
        rows: dict[Row, None] = {}
        for node in self._steps:
            for step, layout in self._between(node, from_step, to_step):
                if layout is not None and not self.is_gone(node, max(step, from_step)):
                    rows[self._keepers(layout, key)] = None
        return list(rows)

    def quorum_rows(self, key: bytes, from_step: int, to_step: int) -> list[tuple[Row, Row]]:
        """See Ring."""
        layouts: dict[int, Layout] = {}
        for node in self._steps:
            for _, layout in self._between(node, from_step, to_step):
                if layout is not None:
                    layouts[id(layout)] = layout
        found: dict[tuple[Row, Row], None] = {}
        for layout in layouts.values():
            partition = layout.partition_of(self._slot(key))
            asked, former = layout.readers(partition), layout.former_owners(partition)
            found[asked, (layout.owners[partition] if asked == former else former)] = None
        return list(found)

    def is_gone(self, node: str, step: int) -> bool:
        """See Ring."""
        ruling = next((layout for since, layout in reversed(self._rules) if since <= step), None)
        return ruling is not None and all(member.id != node for member in ruling.members)

    def has_kept(self, key: bytes, node: str, from_step: int, to_step: int) -> bool:
        """See Ring."""
        layouts = self._between(node, from_step, to_step)
        return any(layout is not None and node in self._keepers(layout, key) for _, layout in layouts)

    def _between(self, node: str, from_step: int, to_step: int) -> list[tuple[int, Layout | None]]:
        """Since when which layout lay on the disk of `node` in that time."""
        steps = self._steps.get(node, [])
        first, end = max(0, bisect_right(steps, from_step) - 1), bisect_right(steps, to_step)
        return list(zip(steps[first:end], self._layouts.get(node, [])[first:end], strict=True))
