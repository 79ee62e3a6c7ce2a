"""The clients that wait for keys of this node, in a queue for each key; and which of them to wake when a key has elements.

Theory. A row is one client that waits for one key. Its home is the node of the client. A row is *called* from the moment
when its home is told to try until the home has tried. There are never more called rows than elements. If an attempt finds
nothing, its row goes back to its place in the queue. So clients are served in the order in which they came, and none loses
its place because of a plain LPOP in between.

Reading a stream removes nothing. So a change of a stream wakes all rows that are in its queue then, some of them each turn.
A row that comes back goes to the end of the queue.

The end of a turn looks only at keys that have rows and were changed in that turn, by a client, another coordinator, a hint
or a repair. On a node without rows it looks at nothing.

Each queue has a dictionary for each home, with the rows by their places. So a home that cannot be reached is skipped at
once, and the end of a client costs one look-up."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from itertools import takewhile
from typing import Final

from server.core.base.errors import CommandError
from server.core.base.state import State
from server.core.messages.queues import encode_wake
from server.core.records.kinds import STREAM
from server.core.records.versions import DamagedRecord
from server.core.records.views import View

CALL_MS: Final = 1000  # a woken client whose home does not try for so long lets others go first
CALLED_MAX: Final = 64  # clients of one key that are woken at a time: each that is served lets another one be woken
Woken = Callable[[int, bytes], None]  # a client of this node, by its number, may try a key


class Row:
    """A client that waits for a key."""

    __slots__ = ("called_ms", "node", "number", "place", "queue")

    def __init__(self, queue: Queue, node: str, number: int, place: int) -> None:
        self.queue = queue
        self.node = node
        self.number = number  # of the client, at its home
        self.place = place
        self.called_ms = -1  # when its home was told; -1: it waits


class Queue:
    """The rows of a key for one type: a client that waits for a list is not woken by a sorted set."""

    __slots__ = ("called", "called_to", "key", "key_type", "storage_key", "waiting")

    def __init__(self, key: bytes, storage_key: bytes, key_type: int) -> None:
        self.key = key
        self.storage_key = storage_key
        self.key_type = key_type
        self.waiting: dict[
            str, OrderedDict[int, Row]
        ] = {}  # by home, and there by number, in the order of their places
        self.called: dict[tuple[str, int], Row] = {}
        self.called_to = 0  # of a stream: rows up to this place are to be woken

    def find(self, node: str, number: int) -> Row | None:
        """The row of a client."""
        rows = self.waiting.get(node)
        row = rows.get(number) if rows is not None else None
        return row or self.called.get((node, number))

    def first(self, is_usable: Callable[[str], bool]) -> Row | None:
        """The row that has waited longest, of a home that can be reached."""
        found: Row | None = None
        for node, rows in self.waiting.items():
            row = next(iter(rows.values()))
            if (found is None or row.place < found.place) and is_usable(node):
                found = row
        return found

    def wait(self, row: Row) -> None:
        """Enters a row that waits at its place: behind those that came before it."""
        rows = self.waiting.setdefault(row.node, OrderedDict())
        is_last = not rows or next(reversed(rows.values())).place < row.place
        rows[row.number] = row
        if not is_last:  # it was called: only others that were called, too, have come before it
            earlier = [each.number for each in takewhile(lambda each: each.place < row.place, rows.values())]
            for number in (row.number, *reversed(earlier)):
                rows.move_to_end(number, last=False)

    def remove(self, row: Row) -> None:
        """Removes a row."""
        if self.called.pop((row.node, row.number), None) is None:
            rows = self.waiting[row.node]
            del rows[row.number]
            if not rows:
                del self.waiting[row.node]

    def is_empty(self) -> bool:
        """Whether it has no rows."""
        return not self.waiting and not self.called


def _nobody(queue: Queue) -> None:
    """Nobody hears it."""


class WaitingRows:
    """All rows of this node. `woken` gets those of its own clients."""

    def __init__(self, state: State, woken: Woken) -> None:
        self.queues: dict[bytes, dict[int, Queue]] = {}  # storage key -> type -> queue
        self.count = 0
        self.freed: Callable[[Queue], None] = _nobody  # who hears that a client of a queue is not called any more
        self._state = state
        self._woken = woken
        self._by_client: dict[str, dict[int, list[Row]]] = {}  # home -> number -> its rows
        self._called: dict[Row, None] = {}  # in the order in which they were called
        self._again: dict[bytes, None] = {}  # keys to look at, whether changed or not
        self._postponed: dict[bytes, None] = {}  # keys with elements, and rows only of homes that cannot be reached
        self._places = 0

    def queue_of(self, storage_key: bytes, key_type: int) -> Queue | None:
        """The rows of a key, if it has any."""
        queues = self.queues.get(storage_key)
        return queues.get(key_type) if queues is not None else None

    def next_place(self) -> int:
        """A place behind all rows that there are now."""
        self._places += 1
        return self._places

    def reachable(self, queue: Queue) -> int:
        """How many rows wait that are not called, of homes that can be reached."""
        return sum([len(rows) for node, rows in queue.waiting.items() if self._is_usable(node)])

    def look_again(self, storage_key: bytes) -> None:
        """The end of the turn looks at a key, though it may not have been changed."""
        self._again[storage_key] = None

    def enter(self, node: str, number: int, key: bytes, storage_key: bytes, key_type: int) -> None:
        """A client's attempt has found nothing: it waits. If it has a row, that goes back to its place."""
        self._state.has_waited = True
        queues = self.queues.setdefault(storage_key, {})
        queue = queues.get(key_type)
        if queue is None:
            queue = queues[key_type] = Queue(key, storage_key, key_type)
        row = queue.find(node, number)
        if row is not None:
            if row.called_ms >= 0:
                self._bring_back(row)
            return
        if self.count >= self._state.config.waiting_rows_max:
            self._drop_if_empty(queue)
            raise CommandError(
                f"BUSY waiting_rows_max={self._state.config.waiting_rows_max} clients wait for keys of node "
                f"{self._state.member.name}"
            )
        self.count += 1
        row = Row(queue, node, number, self.next_place())
        queue.wait(row)
        self._by_client.setdefault(node, {}).setdefault(number, []).append(row)

    def forget(self, node: str, number: int) -> None:
        """A client does not wait any more, or has got its element: removes all its rows."""
        clients = self._by_client.get(node)
        rows = clients.pop(number, None) if clients is not None else None
        for row in rows or ():
            queue = row.queue
            if row.called_ms >= 0:
                del self._called[row]
                self.look_again(queue.storage_key)  # the element may be another one's
                self.freed(queue)
            queue.remove(row)
            self.count -= 1
            self._drop_if_empty(queue)

    def node_lost(self, node: str) -> None:
        """Removes the rows of a node that was lost: it tries again when it is back."""
        for number in list(self._by_client.get(node, ())):
            self.forget(node, number)
        self._by_client.pop(node, None)

    def _drop_if_empty(self, queue: Queue) -> None:
        if queue.is_empty():
            queues = self.queues.get(queue.storage_key)
            if queues is not None:
                queues.pop(queue.key_type, None)
                if not queues:
                    del self.queues[queue.storage_key]

    def _bring_back(self, row: Row) -> None:
        del self._called[row]
        del row.queue.called[row.node, row.number]
        row.called_ms = -1
        if row.queue.key_type == STREAM:
            row.place = self.next_place()
        row.queue.wait(row)
        self.look_again(row.queue.storage_key)
        self.freed(row.queue)

    def wake_changed(self, writes: Mapping[bytes, object]) -> None:
        """At the end of a turn that has written these keys: wakes clients of the keys that have elements for them."""
        changed = writes if len(writes) < len(self.queues) else self.queues
        keys = [key for key in changed if key in self.queues and key in writes]
        for key in keys:
            readers = self.queues[key].get(STREAM)
            if readers is not None:
                readers.called_to = self._places
        if self._again:
            keys += self._again
            self._again.clear()
        wakes: dict[str, list[tuple[int, bytes]]] = {}
        for key in dict.fromkeys(keys):
            for queue in self.queues.get(key, {}).values():
                self._call(queue, wakes)
        state = self._state
        for node, woken in wakes.items():
            if node != state.id:
                state.send(node, encode_wake(state.clock_reading(), woken))
                continue
            for number, key in woken:
                self._woken(number, key)

    def _call(self, queue: Queue, wakes: dict[str, list[tuple[int, bytes]]]) -> None:
        state = self._state
        try:
            view = View(state.records.get(queue.storage_key), state.time_ms)
        except DamagedRecord:
            return  # its mending is a change
        is_stream = queue.key_type == STREAM
        elements = min(len(view), CALLED_MAX) if view.key_type == queue.key_type else 0
        while len(queue.called) < (CALLED_MAX if is_stream and elements else elements):
            row = queue.first(self._is_usable)
            if row is None or (is_stream and row.place > queue.called_to):
                first = queue.first(lambda node: True)
                if first is not None and not (is_stream and first.place > queue.called_to):
                    self._postponed[queue.storage_key] = None
                return
            queue.remove(row)
            queue.called[row.node, row.number] = row
            row.called_ms = state.now_ms
            self._called[row] = None
            wakes.setdefault(row.node, []).append((row.number, queue.key))

    def _is_usable(self, node: str) -> bool:
        return node == self._state.id or self._state.is_usable(node)

    def tick(self, now_ms: int) -> None:
        """Lets others go first if the homes of called clients do not try, and looks again for homes that are back."""
        if self._postponed:
            self._again |= self._postponed
            self._postponed.clear()
        while self._called:
            row = next(iter(self._called))
            if row.called_ms + CALL_MS > now_ms:
                return
            row.place = self.next_place()
            self._bring_back(row)
