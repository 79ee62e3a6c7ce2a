"""DUMP and RESTORE (https://redis.io/docs/latest/commands/dump/): one key's value in the format of Redis' RDB files.

Theory. The payloads are those of Redis 7.0 (formats/payloads.py), so values move between Redis and this store in either
direction. RESTORE makes a new value of the key, as SET does for strings: it supersedes what its coordinator has seen. What
comes in is checked whole before anything changes. A HyperLogLog is a string here, too. Of a stream only the entries are
restored; one without entries does not exist afterwards.

Redis gives IDLETIME and FREQ to its eviction. There is none here, so both are checked and then ignored.
"""

from __future__ import annotations

from protocol import resp
from protocol.resp import Reply
from server.core.base.errors import SYNTAX, CommandError
from server.core.base.sinks import Sink
from server.core.base.state import State
from server.core.commands.arguments import EXPIRY_MS_MAX, check_sizes, integer
from server.core.commands.lists.edits import push_right
from server.core.commands.spec import EXCLUSIVE, READ, CommandSpec
from server.core.commands.typed import ANY, reading, updating, with_state
from server.core.formats import payload_reader, payload_writer, payloads
from server.core.formats.payloads import PayloadError, TooLarge, Value
from server.core.records.draft import Draft
from server.core.records.kinds import EXPIRY_MARK, HASH, LIST, NONE, SET, STREAM, STRING, ZSET
from server.core.records.slicing import Pace, Slices, each_of, fields_of, in_order, items_of, made_of
from server.core.records.views import View, unpack_score

_KEY_TYPES = {payloads.SET: SET, payloads.HASH: HASH, payloads.ZSET: ZSET, payloads.LIST: LIST, payloads.STREAM: STREAM}
_FREQUENCY_MAX = 255
_BUSY = "BUSYKEY Target key name already exists."


def _dump(view: View, args: list[bytes], sink: Sink) -> Slices[bytes]:
    if view.key_type == NONE:
        return resp.null(sink.resp3)
    return resp.bulk((yield from dump(view)))


def dump(view: View) -> Slices[bytes]:
    """Returns the payload of a key that exists. Raises CommandError for a type of a later version."""
    if view.key_type == STRING:
        return payload_writer.dump_string(view.string() or b"")
    if view.key_type == SET:
        return (yield from payload_writer.dump_set((yield from fields_of(view))))
    if view.key_type == HASH:
        return (yield from _dump_hash(view))
    if view.key_type == ZSET:
        ranked = yield from made_of(_scored, view)
        return (yield from payload_writer.dump_zset((yield from in_order(ranked))))
    if view.key_type == LIST:
        return (yield from payload_writer.dump_list((yield from made_of(_payload, view))))
    if view.key_type == STREAM:
        return (yield from payload_writer.dump_stream((yield from items_of(view))))
    raise CommandError("ERR the key holds a type of a later version, which this node cannot dump")


def _dump_hash(view: View) -> Slices[bytes]:
    """Reads expiring fields twice instead of keeping them in a list: freeing 100,000 takes 5 ms in one piece."""
    count, first_ms, pace = 0, 0, Pace()
    for _, _, expires_at_ms in view.lasting_items() if view.marks & EXPIRY_MARK else ():
        if pace.is_full():
            yield
        count += 1
        if expires_at_ms and (not first_ms or expires_at_ms < first_ms):
            first_ms = expires_at_ms
    if first_ms:
        return (yield from payload_writer.dump_expiring_hash(view.lasting_items(), count, first_ms))
    return (yield from payload_writer.dump_hash((yield from items_of(view))))


def _scored(item: tuple[bytes, bytes]) -> tuple[float, bytes]:
    return unpack_score(item[1]), item[0]


def _payload(item: tuple[bytes, bytes]) -> bytes:
    return item[1]


def restore_options(args: list[bytes]) -> frozenset[bytes]:
    """Returns which options a RESTORE has. Raises CommandError as Redis does."""
    found: set[bytes] = set()
    place = 4
    while place < len(args):
        name = args[place].upper()
        has_value = place + 1 < len(args)
        if name in (b"REPLACE", b"ABSTTL"):
            place += 1
        elif name == b"IDLETIME" and has_value and b"FREQ" not in found:
            if integer(args[place + 1]) < 0:
                raise CommandError("ERR Invalid IDLETIME value, must be >= 0")
            place += 2
        elif name == b"FREQ" and has_value and b"IDLETIME" not in found:
            if not 0 <= integer(args[place + 1]) <= _FREQUENCY_MAX:
                raise CommandError("ERR Invalid FREQ value, must be >= 0 and <= 255")
            place += 2
        else:
            raise CommandError(SYNTAX)
        found.add(name)
    return frozenset(found)


def _restore(draft: Draft, args: list[bytes], sink: Sink, state: State) -> Slices[Reply]:
    options = restore_options(args)
    if b"REPLACE" not in options and draft.key_type != NONE:
        raise CommandError(_BUSY)
    ttl_ms = integer(args[2])
    if ttl_ms < 0:
        raise CommandError("ERR Invalid TTL value, must be >= 0")
    value = yield from _loaded(args[1], args[3], state)
    expires_at_ms = ttl_ms + draft.now_ms if ttl_ms and b"ABSTTL" not in options else ttl_ms
    if draft.key_type != NONE:
        draft.clear()
    # A sum of more than 64 bits wraps around in Redis, to a time that has passed.
    if not ttl_ms or draft.now_ms < expires_at_ms <= EXPIRY_MS_MAX:
        yield from _fill(draft, value, expires_at_ms)
    return resp.OK


def _loaded(key: bytes, payload: bytes, state: State) -> Slices[Value]:
    """Returns what a payload stands for. Raises CommandError for a payload or a value that is refused."""
    config = state.config
    try:
        value = yield from payload_reader.load(payload, config.record_bytes_max)
    except PayloadError as error:
        raise CommandError(f"ERR {error}") from error
    except TooLarge as error:
        raise CommandError(
            f"ERR the payload stands for more than record_bytes_max={config.record_bytes_max} allows: nothing was written"
        ) from error
    longest = yield from each_of(_longest, value.items)
    check_sizes(key, max([value.string, *longest], key=len), config)
    return value


def _longest(item: tuple[bytes, bytes]) -> bytes:
    return max(item, key=len)


def _fill(draft: Draft, value: Value, expires_at_ms: int) -> Slices[None]:
    """Makes an empty draft show a value. Fields that have expired are left out."""
    if value.kind == payloads.STRING:
        draft.set_string(value.string, expires_at_ms=expires_at_ms)
        return
    draft.key_type = _KEY_TYPES[value.kind]
    if value.kind == payloads.LIST:
        yield from push_right(draft, [element for element, _ in value.items])
    else:
        yield from _fill_fields(draft, value)
    if expires_at_ms and draft.key_type != NONE:
        draft.expire(expires_at_ms)


def _fill_fields(draft: Draft, value: Value) -> Slices[None]:
    is_filled, pace = False, Pace()
    for item, payload in value.items:
        if pace.is_full():
            yield
        field_expiry_ms = value.expiries_ms.get(item, 0)
        if not field_expiry_ms or field_expiry_ms > draft.now_ms:
            draft.put(item, payload, field_expiry_ms)
            is_filled = True
    if not is_filled:
        draft.key_type = NONE


COMMANDS: tuple[CommandSpec, ...] = (
    CommandSpec(
        "dump",
        2,
        READ,
        reading(ANY, _dump),
        "Returns the value of a key as Redis serializes it.",
        "generic",
        "readonly",
        (1, 1, 1),
        since="2.6.0",
        complexity="O(N)",
        tips="nondeterministic_output",
        access="RO access",
        arguments="key",
    ),
    CommandSpec(
        "restore",
        -4,
        EXCLUSIVE,
        with_state(updating, ANY, _restore, check=restore_options),
        "Makes a key hold a value that Redis has serialized.",
        "generic",
        "write denyoom dangerous",
        (1, 1, 1),
        since="2.6.0",
        complexity="O(N)",
        once=lambda args: True,
        access="OW update",
        arguments="key ttl serialized-value [REPLACE] [ABSTTL] [IDLETIME seconds] [FREQ frequency]",
    ),
)
