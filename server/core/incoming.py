"""Reads and checks a whole message of another node, also against the request that it answers, before anything changes.

Theory. The declaration of a kind (messages/) checks the form of its messages. Some checks need what this node has asked or
knows: as many records as there were keys, replies only to commands of the relay, an answer in the form of its question,
only commands that nodes relay. These checks are made here, in the same step: a message that fails one raises `Malformed`,
like any other damage. The present layout is not decoded again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from librt.strings import read_i32_be

from protocol.bounds import COUNTER_MAX
from server.core.base.state import State
from server.core.commands.table import commands_by_name, find_command
from server.core.messages import announcements, kinds
from server.core.messages.kinds import Covered, Differences, Relay, Relayed, nothing
from server.core.messages.questions import KINDS
from server.core.messages.reader import HEADER_ITEMS, Malformed, Reader, number_in, request_number_in, shown
from server.core.messages.traces import TRACED, Traced
from server.core.requests.reads import Reads
from server.core.requests.relays import Relays
from server.core.ring.layout import Layout, LayoutError
from server.core.work.questions import Questions


class Received:
    """A message that has been read whole."""

    __slots__ = ("content", "kind", "number", "reading")

    def __init__(self, kind: bytes, reading: int, number: int, content: Any) -> None:
        self.kind = kind
        self.reading = reading  # of its sender's clock
        self.number = number
        self.content = content


class Incoming:
    """Reads messages, and checks them against the requests of this node that are in flight."""

    def __init__(self, state: State, reads: Reads, relays: Relays, questions: Questions) -> None:
        self._state = state
        self._reads = reads
        self._relays = relays
        self._commands = commands_by_name()
        self._reading, self._reading_item = 0, b"0"  # of the sender's clock in the last message, and as it stood there
        self._readers: dict[bytes, Callable[[Reader], Any]] = {name: kind.read for name, kind in KINDS.items()}
        self._readers[b"RECORDS"] = self._records
        self._readers[b"DIFFER"] = self._differences
        self._readers[b"RELAY"] = self._relay
        self._readers[b"RELAYED"] = self._relayed
        self._readers[b"COVERED"] = self._covered
        self._readers[b"ANSWER"] = questions.read_answer
        self._readers[b"LAYOUT"] = self._layout
        self._readers[b"TRACED"] = self._traced

    def read(self, message: list[Any]) -> Received:
        """HOT. The message as typed values; no content for a kind that only newer nodes know. Raises Malformed."""
        if len(message) < HEADER_ITEMS or type(message[0]) is not bytes:
            raise Malformed("a message without kind, clock and number")
        kind: bytes = message[0]
        try:
            if (
                message[1] != self._reading_item
            ):  # nearly always it is that of the message before, sent in the same turn
                self._reading = number_in(message[1], 0, COUNTER_MAX)
                self._reading_item = message[1]
            reading, number = self._reading, request_number_in(message[2])
            read = self._readers.get(kind)
            if read is None or (read is nothing and len(message) == HEADER_ITEMS):
                return Received(kind, reading, number, None)
            items = Reader(message, number, HEADER_ITEMS)
            content = read(items)
            items.end()
        except Malformed as error:
            raise Malformed(f"malformed message {shown(kind)}: {error}") from None
        return Received(kind, reading, number, content)

    def _records(self, items: Reader) -> list[bytes]:
        """RECORDS, the answer to a group of reads: one record for each key."""
        records = kinds.RECORDS.read(items)
        wanted = self._reads.key_count(items.number)
        if wanted is not None and len(records) != wanted:
            raise Malformed(f"{len(records)} records, {wanted} were asked for")
        return records

    def _differences(self, items: Reader) -> Differences:
        """DIFFER, the answer to a group of reads: a state for each key."""
        differences = kinds.DIFFER.read(items)
        wanted = self._reads.key_count(items.number)
        if wanted is not None and len(differences.states) != wanted:
            raise Malformed(f"states of {len(differences.states)} keys, {wanted} were asked for")
        return differences

    def _relay(self, items: Reader) -> Relay:
        """HOT. RELAY: commands with keys, since only such are relayed. An unknown command is a newer node's and is answered
        with an error."""
        relay = kinds.RELAY.read(items)
        commands, in_order = self._commands, kinds.is_in_order(relay.options)
        name, spec = b"", commands.get(b"")
        for args in relay.commands:
            if args[0] != name:
                name = args[0]
                spec = commands.get(name)
            if spec is None or len(args) != spec.usual_count:
                found = find_command(args)
                if in_order if found is None else not found.accepts(len(args)) or not found.keys_of(args):
                    raise Malformed(f"{shown(args[0])} with {len(args)} words is no command that is relayed")
        return relay

    def _relayed(self, items: Reader) -> Relayed:
        relayed = kinds.RELAYED.read(items)
        self._check_indexes(items.number, relayed.indexes)
        return relayed

    def _covered(self, items: Reader) -> Covered:
        covered = kinds.COVERED.read(items)
        self._check_indexes(items.number, covered.indexes)
        return covered

    def _check_indexes(self, number: int, indexes: bytes) -> None:
        """HOT. Raises Malformed if a relay of ours has no command at one of these places."""
        count = self._relays.command_count(number)
        if count is not None:
            for place in range(0, len(indexes), 4):
                index = read_i32_be(indexes, place)
                if not 0 <= index < count:
                    raise Malformed(f"a reply to command {index} of a relay of {count} commands")

    def _traced(self, items: Reader) -> Traced:
        """TRACED: the message in the envelope is read, too, so that nothing has changed yet if it cannot be."""
        traced = TRACED.read(items)
        if traced.message[0] == b"TRACED":  # before it is read: a thousand of them would be too deep a recursion
            raise Malformed("an envelope in an envelope")
        self.read(traced.message)
        return traced

    def _layout(self, items: Reader) -> Layout:
        """The layout that a message carries."""
        document = announcements.LAYOUT.read(items)
        present = self._state.layout
        if present is not None and document == present.encode():
            return present
        try:
            return Layout.decode(document)
        except LayoutError as error:
            raise Malformed(str(error)) from None
