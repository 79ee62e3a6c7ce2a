"""PFADD, PFCOUNT and PFMERGE (https://redis.io/docs/latest/commands/?group=hyperloglog).

Theory. PFADD writes an entry of its own kind whose payload is Redis' string. Of entries that were written at the same time
on two sides of a partition, the highest value of each register counts (records/views.py): that is the sketch of the
elements of both sides, so no element is lost and none counts twice. A plain string of the same bytes, written by SET or
RESTORE, is taken for a sketch as well, and becomes such an entry with the next PFADD that changes it.

PFMERGE reads each source by a quorum of its own, and gives the registers to the coordinator of the target, which merges
them into what it has then: an element that another client adds meanwhile stays. PFCOUNT changes nothing, so it keeps no
count in the string, as Redis does; it does take one that is there.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from protocol import resp
from protocol.resp import Reply
from server.core.base.errors import CommandError
from server.core.base.sinks import Sink
from server.core.commands.arguments import check_sizes
from server.core.commands.internal import internal
from server.core.commands.key_specs import PFCOUNT_KEYS, KeySpec
from server.core.commands.spec import EXCLUSIVE, READ, CommandSpec
from server.core.commands.typed import check_type, reading, updating
from server.core.commands.typed_steps import gather, gather_in_batches, run_command
from server.core.formats import hyperloglog
from server.core.formats.hyperloglog import SketchError
from server.core.records.draft import Draft
from server.core.records.kinds import STRING
from server.core.records.slicing import Slices, parts_of
from server.core.records.views import View
from server.core.services.services import Services
from server.core.work.procedures import Steps

_SLICE_ELEMENTS, _SLICE_SKETCHES = 256, 32  # in one slice: about 10 ms


@contextmanager
def _as_command_error() -> Iterator[None]:
    """A string that is no HyperLogLog is the command's error."""
    try:
        yield
    except SketchError as error:
        raise CommandError(str(error)) from error


def _sketch_of(view: View) -> bytes | None:
    """The sketch that a key holds; None if the key does not exist. Raises CommandError."""
    check_type(view, STRING)
    sketch = view.string()
    if sketch is not None:
        with _as_command_error():
            hyperloglog.check(sketch)
    return sketch


def _pfadd(draft: Draft, args: list[bytes], sink: Sink) -> Slices[Reply]:
    present = _sketch_of(draft)
    changed: bytes | None = None
    for part in parts_of(args[2:], _SLICE_ELEMENTS):
        with _as_command_error():
            changed = hyperloglog.add(changed or present or hyperloglog.empty(), part) or changed
        if len(part) == _SLICE_ELEMENTS:
            yield
    if changed is None and present is not None:
        return resp.integer(0)
    draft.set_sketch(changed or hyperloglog.new())
    return resp.integer(1)


def _count(sketches: list[bytes]) -> bytes:
    with _as_command_error():
        return resp.integer(hyperloglog.count(sketches))


def _count_one(view: View, args: list[bytes], sink: Sink) -> bytes:
    sketch = _sketch_of(view)
    return resp.integer(0) if sketch is None else _count([sketch])


class _Merged:
    """The HyperLogLog of all elements of others, which are added some at a time."""

    def __init__(self) -> None:
        self.sketch: bytes | None = None

    def add_sketches(self, views: list[View]) -> Slices[None]:
        """Adds what keys hold. Raises CommandError."""
        for part in parts_of(views, _SLICE_SKETCHES):
            sketches = [sketch for view in part if (sketch := _sketch_of(view)) is not None]
            if sketches:
                with _as_command_error():
                    self.sketch = hyperloglog.merge(self.sketch, sketches)
            if len(part) == _SLICE_SKETCHES:
                yield


def _pfcount(services: Services, sink: Sink, number: int, args: list[bytes]) -> bytes | None:
    """PFCOUNT key …: the number of elements in any of the keys, of any slots."""
    if len(args) == 2:
        return _pfcount_one(services, sink, number, args)

    def steps() -> Steps:
        merged = _Merged()
        yield from gather_in_batches(services, list(dict.fromkeys(args[1:])), merged.add_sketches)
        return _count([merged.sketch or hyperloglog.new(), hyperloglog.new()])  # two: Redis takes no kept count here

    services.run_steps(steps(), sink, number)
    return None


def _pfmerge(services: Services, sink: Sink, number: int, args: list[bytes]) -> None:
    """PFMERGE destkey sourcekey …, of any slots."""
    check_sizes(args[1], b"", services.state.config)

    def steps() -> Steps:
        (target,) = yield gather(services, args[1:2])
        _sketch_of(target)
        merged = _Merged()
        yield from gather_in_batches(services, list(dict.fromkeys(args[2:])), merged.add_sketches)
        yield run_command(services, [b"DYN.PFMERGE", args[1], *([merged.sketch] if merged.sketch else [])])
        return resp.OK

    services.run_steps(steps(), sink, number)


def _merge(draft: Draft, args: list[bytes], sink: Sink) -> bytes:
    """DYN.PFMERGE key sketch …: a step of PFMERGE."""
    present = _sketch_of(draft)
    with _as_command_error():
        for sketch in args[2:]:
            hyperloglog.check(sketch)
        draft.set_sketch(hyperloglog.merge(present, args[2:]))
    return resp.OK


_pfcount_one = reading(STRING, _count_one)

COMMANDS: tuple[CommandSpec, ...] = (
    CommandSpec(
        "pfadd",
        -2,
        EXCLUSIVE,
        updating(STRING, _pfadd),
        "Adds elements to a HyperLogLog; those of both sides of a partition count.",
        "hyperloglog",
        "write denyoom fast",
        (1, 1, 1),
        since="2.8.9",
        access="RW insert",
        arguments="key [element [element ...]]",
    ),
    CommandSpec(
        "pfcount",
        -2,
        READ,
        _pfcount,
        "Returns about how many elements HyperLogLogs, of any slots, have in all.",
        "hyperloglog",
        "readonly",
        since="2.8.9",
        complexity="O(N)",
        key_specs=(PFCOUNT_KEYS,),
        arguments="key [key ...]",
    ),
    CommandSpec(
        "pfmerge",
        -2,
        EXCLUSIVE,
        _pfmerge,
        "Merges HyperLogLogs, of any slots, into one.",
        "hyperloglog",
        "write denyoom",
        since="2.8.9",
        complexity="O(N)",
        key_specs=(KeySpec("RW access insert", 1), KeySpec("RO access", 2, last=-1)),
        arguments="destkey sourcekey [sourcekey ...]",
    ),
)

UNLISTED: tuple[CommandSpec, ...] = (
    CommandSpec(
        "dyn.pfmerge",
        -2,
        EXCLUSIVE,
        internal(updating(STRING, _merge)),
        "Merges HyperLogLogs into the one of a key.",
        "dyn",
        "write denyoom",
        (1, 1, 1),
    ),
)
