"""Steps of commands over several keys: read keys of any slots, make a key hold something, remove what was seen.

Theory. A command over several keys runs at the node that its client uses. Each key is read by its own quorum and written
by its own coordinator, so nothing about several keys is atomic. Such a command writes its target before it removes
anything from its source: if it ends in between, something is there twice, and nothing is lost.

The steps are commands themselves, which travel to the nodes that run them like those of clients. Two of them have no
other use and are not listed: DYN.RECORD answers a record, DYN.REPLACE makes a key hold what a record shows.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from typing import Any

from protocol import resp
from protocol.resp import LargeReply, Reply
from protocol.tokens import encode_context
from server.core.base.errors import CommandError, ErrorReply
from server.core.base.sinks import Sink
from server.core.commands.execution import execute
from server.core.commands.internal import internal
from server.core.commands.lists.edits import push_right
from server.core.commands.registry import find_command
from server.core.commands.slices import Parts, in_slices, run_parts
from server.core.commands.spec import EXCLUSIVE, READ, CommandSpec
from server.core.commands.strings import LARGE_BYTES, reader
from server.core.commands.typed import ANY, updating
from server.core.pubsub.events import EVENT_WORD, REPLACES
from server.core.records import versions
from server.core.records.draft import Draft
from server.core.records.kinds import COLLECTIONS, LIST, NONE, STRING
from server.core.records.slicing import Pace, Slices, items_of
from server.core.records.versions import ACTOR_BYTES
from server.core.records.views import View
from server.core.services.services import Services
from server.core.work.procedures import Procedure, Step

_NOBODY = bytes(ACTOR_BYTES)
_IF_ABSENT = b"NX"
_FIRST_BATCH, _BATCH_MAX = 4, 1024  # keys


class _Part(Sink):
    """The sink of a command that a procedure runs as a step. The command is new: it may be relayed."""

    def __init__(self, procedure: Procedure, args: list[bytes] | None = None) -> None:
        super().__init__(procedure)
        self.relayed = False
        self._procedure = procedure
        self._args = args

    def command(self, number: int) -> list[bytes] | None:
        """Returns the arguments of the command that is the step."""
        return self._args

    def answer(self, number: int, reply: Reply) -> None:
        """The reply of the command is the result of the step."""
        encoded = reply.joined() if isinstance(reply, LargeReply) else reply
        self._procedure.resume(ErrorReply(encoded) if encoded[:1] == b"-" else encoded)


class _Records(_Part):
    """The sink of `gather`: the records become views, each in the turn in which it comes."""

    def __init__(self, procedure: Procedure, services: Services, keys: list[bytes]) -> None:
        super().__init__(procedure)
        self._services = services
        self._keys = keys
        self._places = {key: place for place, key in enumerate(dict.fromkeys(keys))}
        self._views: list[View] = []

    def start(self) -> None:
        """Reads the keys. One that comes again is read once: a short command can name a large key a thousand times."""
        unique, state = list(self._places), self._services.state
        parts = Parts(self, 0, len(unique), self._give, True, state.config.gathered_bytes_max, self._view_of)
        run_parts(self._services, parts, "dyn.record", _record, lambda index: [b"DYN.RECORD", unique[index]])

    def _view_of(self, reply: Reply) -> View:
        """The view of a record in a reply. Raises CommandError."""
        record = _record_in(reply)
        if record and not versions.has_checksum(record):
            raise CommandError("ERR a record was damaged on its way: nothing was written")
        return View(record or None, self._services.state.time_ms)

    def _give(self, parts: Parts) -> Reply:
        self._views = parts.replies
        return b""

    def answer(self, number: int, reply: Reply) -> None:
        """All records have come, or an error."""
        if reply:
            assert isinstance(reply, bytes)
            self._procedure.resume(ErrorReply(reply))
        else:
            self._procedure.resume([self._views[self._places[key]] for key in self._keys])


def _record_in(reply: Reply) -> bytes:
    """The record in a reply to DYN.RECORD; a large one of this node is not copied."""
    if isinstance(reply, LargeReply):
        piece = reply.pieces[1]
        if isinstance(piece, memoryview) and isinstance(piece.obj, bytes) and len(piece.obj) == len(piece):
            return piece.obj
        reply = reply.joined()
    return reply[reply.index(b"\r\n") + 2 : -2]


def run_command(services: Services, args: list[bytes]) -> Step:
    """A step that runs a command of one key, wherever that is coordinated. Its result is the encoded reply; an error of the
    command ends the procedure."""

    def start(procedure: Procedure) -> None:
        spec = find_command(args)
        assert spec is not None, "a step runs a known command"
        execute(services, spec.name, spec.handler, _Part(procedure, args), 0, args)

    return start


def gather(services: Services, keys: list[bytes]) -> Step:
    """A step whose result is a view of each key, in their order. Each is read by its own quorum.

    If the records have more than `gathered_bytes_max` bytes, the command ends with an error.
    """

    def start(procedure: Procedure) -> None:
        if keys:
            _Records(procedure, services, keys).start()
        else:
            procedure.resume([])

    return start


def gather_in_batches(
    services: Services, keys: list[bytes], add: Callable[[list[View]], Slices[None]]
) -> Generator[Step, Any, None]:
    """Reads keys, some at a time, and gives `add` their views, in their order.

    As `gather`, the batches are bounded in bytes: the first one is small, and one may have twice as many keys as the one
    before if that had little.
    """
    place, count, bytes_max = 0, _FIRST_BATCH, services.state.config.gathered_bytes_max
    while place < len(keys):
        views = yield gather(services, keys[place : place + count])
        place += count
        size = sum([len(view.base or b"") for view in views])
        count = max(1, count // 2) if size > bytes_max // 4 else min(2 * count, _BATCH_MAX)
        yield from in_slices(services, add(views))


def replace(services: Services, key: bytes, record: bytes, only_if_absent: bool = False) -> Step:
    """A step that makes `key` hold what a record (`content_of`) shows, its expiries included, and nothing else.

    The result is the encoded integer 1, or 0 if the key was to be absent and exists. If the record is empty, the key is
    deleted.
    """
    words = [b"DYN.REPLACE", key, record, *[_IF_ABSENT] * only_if_absent]

    def start(procedure: Procedure) -> None:
        whole = procedure.command(0) if services.notifications.is_on else None
        if whole:  # all members read it, as they have the setting
            name = whole[0].decode("latin-1").lower()
            words.extend((EVENT_WORD, REPLACES.get(name, name).encode("latin-1")))
        run_command(services, words)(procedure)

    return start


def remove_seen(services: Services, key: bytes, view: View) -> Step:
    """A step that deletes exactly what `view`, which `gather` has answered, shows: what was written since then stays."""
    assert view.base is not None
    token = encode_context(key, versions.clock_of(view.base))
    return run_command(services, [b"DYN.DEL", key, b"CONTEXT", token])


def content_of(view: View) -> Slices[bytes]:
    """Returns a record that shows what a view or a draft shows; empty if that is nothing. It is no part of a history."""
    if view.key_type == NONE:
        return b""
    if isinstance(view, Draft) and view.base is None:
        return (yield from view.record_in_slices(_NOBODY, 0))
    draft = Draft(None, view.now_ms, view.key_type)
    yield from copy_view(draft, view)
    return (yield from draft.record_in_slices(_NOBODY, 0))


def content_with(key_type: int, items: Iterable[tuple[bytes, bytes]], now_ms: int) -> Slices[bytes]:
    """Returns a record that shows a collection of these fields and payloads; empty if there are none."""
    draft, pace = Draft(None, now_ms, key_type), Pace()
    for field, payload in items:
        if pace.is_full():
            yield
        draft.put(field, payload)
    return (yield from content_of(draft))


def copy_view(draft: Draft, view: View) -> Slices[None]:
    """Makes a draft show what a view shows, and nothing else."""
    draft.clear()
    sketches = view.sketches()
    if view.key_type == STRING and sketches and view.newest is None:
        draft.set_sketch(view.string() or sketches[0])
    elif view.key_type == STRING:
        draft.set_string(view.string() or b"")
    elif view.key_type == LIST:
        draft.key_type = LIST
        items = yield from items_of(view)
        yield from push_right(draft, (value for _, value in items))
    elif view.key_type in COLLECTIONS:
        draft.key_type = view.key_type
        pace = Pace()
        for field, payload, expires_at_ms in view.lasting_items():
            if pace.is_full():
                yield
            draft.put(field, payload, expires_at_ms)
    else:
        raise CommandError("ERR the key holds a type of a later version, which this node cannot copy")
    if view.expires_at_ms:
        draft.expire(view.expires_at_ms)


def _record_reply(record: bytes | None, sink: Sink, now_ms: int) -> Reply:
    if record is None or len(record) < LARGE_BYTES:
        return resp.bulk(record or b"")
    return LargeReply([b"$%d\r\n" % len(record), memoryview(record), b"\r\n"], len(record))


def _replace(draft: Draft, args: list[bytes], sink: Sink) -> Slices[Reply]:
    if _IF_ABSENT in args[3:4] and draft.key_type != NONE:
        return resp.integer(0)
    if not args[2]:
        if draft.key_type != NONE:
            draft.clear()
        return resp.integer(1)
    if not versions.has_checksum(args[2]):
        raise CommandError("ERR not a record")
    view = View(args[2], draft.now_ms)
    if view.key_type == NONE:  # it has expired on its way
        draft.clear()
    else:
        yield from copy_view(draft, view)
    return resp.integer(1)


_record = reader(_record_reply)

UNLISTED: tuple[CommandSpec, ...] = (
    CommandSpec("dyn.record", 2, READ, internal(_record), "Returns the record of a key.", "dyn", "readonly", (1, 1, 1)),
    CommandSpec(
        "dyn.replace",
        -3,
        EXCLUSIVE,
        internal(updating(ANY, _replace)),
        "Makes a key hold what a record shows.",
        "dyn",
        "write denyoom",
        (1, 1, 1),
        once=lambda args: _IF_ABSENT in args[3:4],
    ),
)
