"""The shapes of JSON documents that nodes send each other or store on their disks.

Theory. A shape is a function that returns what is wrong with a value, as a sentence, or "" if nothing is. Shapes are
composed like the documents themselves: `fields` of an object, `listed` values. A document is parsed within limits
(protocol/json_documents.py) and checked against its shape once, where it comes in. After that its fields are used
without checks. Fields that a shape does not name are ignored, because later versions add some. Fields that only later
versions of a document have are `optional`; the code that reads them says what a missing one means.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from protocol import json_documents
from protocol.bounds import COUNT_MAX, COUNTER_MAX, EPOCH_MAX, NODE_ID_BYTES_MAX, TIME_MS_MAX, is_node_id
from server.core.messages.reader import Malformed, Reader

D = TypeVar("D")
Shape = Callable[[Any], str]
NO_FIELDS: Mapping[str, Shape] = {}
DOCUMENT_BYTES_MAX = 64 << 20
TEXT_BYTES_MAX = 64 << 10
_VERSION = re.compile("[0-9a-f]{1,16}")


def parse(document: bytes, shape: Shape, what: str) -> Any:
    """Returns the value of a document of this shape. Raises ValueError for any other document."""
    value = json_documents.parse(document, DOCUMENT_BYTES_MAX)
    fault = shape(value)
    if fault:
        raise ValueError(f"{what}: {fault}")
    return value


def document_in(items: Reader, bytes_max: int, decode: Callable[[bytes], D]) -> D:
    """Reads a document of a message by `decode`, whose ValueError makes the message malformed."""
    try:
        return decode(items.data(bytes_max))
    except ValueError as error:
        raise Malformed(str(error)) from None


def integer(most: int = COUNT_MAX, least: int = 0) -> Shape:
    """The shape of a whole number from `least` to `most`."""
    return lambda value: "" if type(value) is int and least <= value <= most else _no(value, f"{least} to {most}")


def real(value: Any) -> str:
    """The shape of a number that is not negative."""
    return (
        "" if type(value) in (int, float) and 0 <= value <= COUNT_MAX else _no(value, "a number that is not negative")
    )


def truth(value: Any) -> str:
    """The shape of true or false."""
    return "" if type(value) is bool else _no(value, "true or false")


def text(value: Any) -> str:
    """The shape of a text of limited length."""
    return "" if type(value) is str and len(value) <= TEXT_BYTES_MAX else _no(value, "text")


def version(value: Any) -> str:
    """The shape of a version: hexadecimal digits, because many JSON readers do not read such numbers exactly."""
    is_one = type(value) is str and _VERSION.fullmatch(value) is not None and int(value, 16) <= COUNTER_MAX
    return "" if is_one else _no(value, "a version")


def node_id(value: Any) -> str:
    """The shape of the id of a node."""
    return (
        "" if type(value) is str and is_node_id(value) else _no(value, f"an id of 1 to {NODE_ID_BYTES_MAX} characters")
    )


def one_of(*words: Any) -> Shape:
    """The shape of a value that is one of `words`, which are of one type."""
    return lambda value: "" if type(value) is type(words[0]) and value in words else _no(value, f"one of {words}")


def listed(shape: Shape, most: int = COUNT_MAX, least: int = 0) -> Shape:
    """The shape of a list of values that all have one shape."""

    def check(value: Any) -> str:
        if type(value) is not list or not least <= len(value) <= most:
            return _no(value, f"a list of {least} to {most} values")
        return next((fault for item in value if (fault := shape(item))), "")

    return check


def row(*shapes: Shape) -> Shape:
    """The shape of a list that has one value for each of `shapes`, in this order."""

    def check(value: Any) -> str:
        if type(value) is not list or len(value) != len(shapes):
            return _no(value, f"a list of {len(shapes)} values")
        return next((fault for item, shape in zip(value, shapes, strict=True) if (fault := shape(item))), "")

    return check


def mapped(keys: Shape, values: Shape) -> Shape:
    """The shape of an object whose names have one shape and whose values have another."""

    def check(value: Any) -> str:
        if type(value) is not dict:
            return _no(value, "an object")
        faults = (fault for key, item in value.items() for fault in (keys(key), values(item)) if fault)
        return next(faults, "")

    return check


def fields(needed: Mapping[str, Shape], optional: Mapping[str, Shape] = NO_FIELDS) -> Shape:
    """The shape of an object with the `needed` fields, perhaps some `optional` ones, and perhaps unknown ones."""

    def check(value: Any) -> str:
        if type(value) is not dict:
            return _no(value, "an object")
        for name in needed:
            if name not in value:
                return f"there is no {name!r}"
        for name, shape in (*needed.items(), *optional.items()):
            fault = shape(value[name]) if name in value else ""
            if fault:
                return f"{name!r}: {fault}"
        return ""

    return check


def nothing_or(shape: Shape) -> Shape:
    """The shape of a value that has `shape` or is null."""
    return lambda value: "" if value is None else shape(value)


def _no(value: Any, wanted: str) -> str:
    seen = repr(value) if isinstance(value, (int, float, str)) and len(str(value)) <= 40 else type(value).__name__
    return f"{seen} is not {wanted}"


# --- the documents

COUNT = integer()
TIME_MS = integer(TIME_MS_MAX)
PARTITION = integer((1 << 14) - 1)
BEHIND = mapped(node_id, COUNT)  # owner -> dropped hints

TASK_STATE = one_of("running", "done", "failed", "aborted")
_TASK_COUNTS = {
    "task": text, "state": TASK_STATE, "partitions": integer(1 << 14), "keys_compared": COUNT, "keys_repaired": COUNT,
    "bytes_sent": COUNT, "node": text, "error": text,
}  # fmt: skip
TASK_ROW = fields(
    {**_TASK_COUNTS, "started_ms": TIME_MS, "partitions_done": integer(1 << 14)},
    {"eta_s": nothing_or(real), "ended_ms": TIME_MS, "paused": truth},
)  # fmt: skip
TASKS = listed(TASK_ROW)
STORED_TASKS = listed(fields({**_TASK_COUNTS, "started_ms": TIME_MS, "remaining": listed(PARTITION)}))
STORED_TRANSFER = TASK_ROW
TRANSFER = fields(
    {
        **dict.fromkeys(("partitions", "partitions_done", "keys", "keys_done", "bytes_sent"), COUNT),
        "eta_s": nothing_or(real),
    },
    {"paused": truth},
)
FILLED = fields(
    {
        **dict.fromkeys(("partitions", "partitions_done", "keys", "keys_done", "percent", "bytes_sent"), COUNT),
        "eta_s": nothing_or(real),
    }
)
FILLING = fields({"state": TASK_STATE, "task": text, "started_ms": TIME_MS, "node": text, "error": text})
STATUS = fields(
    {"keys": COUNT, "hints_held": COUNT, "behind": BEHIND},
    {
        "damaged": COUNT, "mended": COUNT, "lost": COUNT, "unreadable": COUNT, "rebuild": text, "disk_full": truth,
        "disk_room": integer(2),
        "transfer": nothing_or(TRANSFER), "to_let_go": COUNT, "copies": mapped(node_id, listed(text)),
        "wall_ms": TIME_MS, "gone_back": listed(node_id), "taken_back": listed(node_id), "aside": text,
        "filling": nothing_or(FILLED), "failing": mapped(text, fields({"errors": COUNT, "error": text})),
        "internal_errors": COUNT, "held_back": mapped(text, COUNT), "notices": listed(text), "urgent": listed(text),
        "heard_ms": mapped(node_id, TIME_MS), "hints_full": truth, "overdue_s": mapped(node_id, COUNT),
    },
)  # fmt: skip
VERIFY = fields(
    {
        "state": one_of("running", "done"),
        **dict.fromkeys(("keys", "mended", "lost", "unreadable", "waiting"), COUNT),
    }
)
HINTS = fields(
    {
        "hints": listed(fields({"owner": node_id, "count": COUNT, "bytes": COUNT, "oldest_s": COUNT})),
        "behind": BEHIND,
        "delivered": COUNT,
    }
)
_JOB_COUNTS = {"keys_repaired": COUNT, "bytes_sent": COUNT}
_RUNNING_JOB = fields(
    {
        "state": one_of("running", "done"), **_JOB_COUNTS, "keys": listed(row(PARTITION, COUNT)),
        "missed": listed(row(PARTITION, node_id, text)),
    }
)  # fmt: skip
STOPPED_JOB = fields({"state": one_of("done", "running")})


def job(value: Any) -> str:
    """The shape of an answer to REPAIR: the progress of the job, or "busy" if there is no room for one."""
    busy = type(value) is dict and value.get("state") == "busy"
    return "" if busy else _RUNNING_JOB(value)


def sizes(partitions: int) -> Shape:
    """The shape of an answer to SIZES."""
    return fields({"keys": listed(COUNT, partitions, partitions), "mean_bytes": real, "busy": truth})


MYSELF = fields(  # the answer to DYN.CLUSTER MYSELF
    {"id": node_id, "name": text, "address": text},
    {
        "zone": text, "weight": integer(), "epoch": integer(EPOCH_MAX), "cluster": text, "keys": COUNT,
        "incarnation": TIME_MS, "moved_ms": TIME_MS, "left": integer(EPOCH_MAX),
    },
)  # fmt: skip
LEFT = row(text, integer())  # the cluster that this node has left, and at which epoch
STAGED = fields(
    {"epoch": integer(EPOCH_MAX), "changes": mapped(text, fields({})), "aborted": listed(text, 1 << 16)},
    {"shown": listed(text, 1 << 10)},
)
