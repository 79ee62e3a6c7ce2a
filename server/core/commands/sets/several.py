"""Commands on several sets: SUNION, SINTER, SDIFF, their STORE forms, SINTERCARD and SMOVE.

Theory. The keys may be of any slots. Each is read by its own quorum, so a result may mix states of different moments. A
STORE form writes its destination as one write. SMOVE adds to the destination before it removes from the source: if it
ends in between, the element is in both sets, never in none.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from protocol import resp
from server.core.base.sinks import Sink
from server.core.commands.sets.algebra import Algebra, Difference, Intersection, Union, limited_keys
from server.core.commands.sets.elements import elements_reply
from server.core.commands.slices import in_slices
from server.core.commands.spec import Handler
from server.core.commands.typed import check_type
from server.core.commands.typed_steps import content_with, gather, gather_in_batches, replace, run_command
from server.core.records.kinds import SET
from server.core.records.slicing import Slices
from server.core.records.views import View
from server.core.services.services import Services
from server.core.work.procedures import Step, Steps

UNION, INTERSECTION, DIFFERENCE = "union", "intersection", "difference"


def combined(name: str) -> Handler:
    """Returns the handler of SUNION, SINTER or SDIFF: key …."""

    def handle(services: Services, sink: Sink, number: int, args: list[bytes]) -> None:
        def steps() -> Steps:
            elements = yield from _result(services, args[1:], _operation(name, services))
            return (yield from in_slices(services, elements_reply(elements, sink)))

        services.run_steps(steps(), sink, number)

    return handle


def stored(name: str) -> Handler:
    """Returns the handler of SUNIONSTORE, SINTERSTORE or SDIFFSTORE: destination key …."""

    def handle(services: Services, sink: Sink, number: int, args: list[bytes]) -> None:
        def steps() -> Steps:
            elements = yield from _result(services, args[2:], _operation(name, services))
            items = ((element, b"") for element in elements)
            record = yield from in_slices(services, content_with(SET, items, services.state.time_ms))
            yield replace(services, args[1], record)
            return resp.integer(len(elements))

        services.run_steps(steps(), sink, number)

    return handle


def _operation(name: str, services: Services) -> Algebra:
    if name == UNION:
        return Union(services.state.config.gathered_bytes_max)
    return Intersection() if name == INTERSECTION else Difference()


def _result(services: Services, keys: list[bytes], operation: Algebra) -> Generator[Step, Any, list[bytes]]:
    """Returns what an operation makes of the sets. A set that is named again changes nothing, unless it was the first."""

    def add(views: list[View]) -> Slices[None]:
        for view in views:
            check_type(view, SET)
        return operation.add_sets(views)

    yield from gather_in_batches(services, [keys[0], *dict.fromkeys(keys[1:])], add)
    return (yield from in_slices(services, operation.result()))


def sintercard(services: Services, sink: Sink, number: int, args: list[bytes]) -> None:
    """SINTERCARD numkeys key … [LIMIT limit]: the size of the intersection, or `limit` if it is larger."""
    keys, limit = limited_keys(args)

    def steps() -> Steps:
        return resp.integer(len((yield from _result(services, keys, Intersection(limit)))))

    services.run_steps(steps(), sink, number)


def smove(services: Services, sink: Sink, number: int, args: list[bytes]) -> None:
    """SMOVE source destination element: 1 if the element was moved, 0 if it was not in the source."""
    source, destination, element = args[1:]

    def steps() -> Steps:
        views = yield gather(services, [source, destination])
        for view in views if len(views[0]) or views[0].key_type else ():
            check_type(view, SET)
        if not views[0].has(element):
            return resp.integer(0)
        if source != destination:
            yield run_command(services, [b"SADD", destination, element])
            yield run_command(services, [b"SREM", source, element])
        return resp.integer(1)

    services.run_steps(steps(), sink, number)
