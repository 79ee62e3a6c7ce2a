"""BITOP: AND, OR, XOR and NOT of whole values, of any slots (https://redis.io/docs/latest/commands/bitop/).

Theory. Each source is read by a quorum of its own, at any node, and then the target is set like by SET. So BITOP is not
atomic: what is written to a source meanwhile is not in the result. Pieces of the values become integers, which Python
combines as fast as C. Measured: a slice of 1 MiB of sources takes 5 ms; other clients are served after each. A large
result is written to the store in chunks before it is set.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from operator import and_, or_, xor

from protocol import resp
from server.core.base.errors import SYNTAX, CommandError
from server.core.base.sinks import Sink
from server.core.commands.arguments import check_sizes
from server.core.commands.key_specs import KeySpec
from server.core.commands.slices import in_slices
from server.core.commands.spec import EXCLUSIVE, CommandSpec
from server.core.commands.typed import check_type
from server.core.commands.typed_steps import gather, run_command
from server.core.records.kinds import STRING
from server.core.services.services import Services
from server.core.work.procedures import Steps

_PIECE_BYTES = 64 << 10
_SLICE_BYTES = 1 << 20  # of all sources
_SOURCE_BYTES = 256  # what a source costs beside its bytes
_OPERATIONS: dict[bytes, Callable[[int, int], int]] = {b"AND": and_, b"OR": or_, b"XOR": xor}


def combine(name: bytes, sources: list[bytes]) -> Generator[None, None, bytes]:
    """The value that AND, OR, XOR or NOT makes of the sources; pauses after each slice of its work. The shorter sources are
    followed by zeros."""
    size = max(map(len, sources))
    pieces = []
    unpaused = 0
    for place in range(0, size, _PIECE_BYTES):
        piece_bytes = min(_PIECE_BYTES, size - place)
        result = int.from_bytes(sources[0][place : place + piece_bytes], "little")
        if name == b"NOT":
            result ^= (1 << 8 * piece_bytes) - 1
        # One source after the other: there may be a million of them, most of them empty.
        for source in sources[1:] if name != b"NOT" else ():
            result = _OPERATIONS[name](result, int.from_bytes(source[place : place + piece_bytes], "little"))
            unpaused += max(piece_bytes, _SOURCE_BYTES)
            if unpaused >= _SLICE_BYTES:
                unpaused = 0
                yield
        pieces.append(result.to_bytes(piece_bytes, "little"))
        unpaused += piece_bytes
        if unpaused >= _SLICE_BYTES:
            unpaused = 0
            yield
    return b"".join(pieces)


def _bitop(services: Services, sink: Sink, number: int, args: list[bytes]) -> None:
    """BITOP AND|OR|XOR|NOT destkey key …: the length of what was stored. An empty result deletes the target."""
    name, target, keys = args[1].upper(), args[2], args[3:]
    if name != b"NOT" and name not in _OPERATIONS:
        raise CommandError(SYNTAX)
    if name == b"NOT" and len(keys) > 1:
        raise CommandError("ERR BITOP NOT must be called with a single source key.")
    check_sizes(target, b"", services.state.config)

    def steps() -> Steps:
        views = yield gather(services, keys)
        for view in views:
            check_type(view, STRING)
        slices = combine(name, [view.string() or b"" for view in views])
        result = yield from in_slices(services, slices)
        assert isinstance(result, bytes)
        if len(result) >= services.state.staged_bytes_min and services.route(target).coordinator is None:
            yield from in_slices(services, services.writes.stage([result]))  # SET stores it in this very turn
        yield run_command(services, [b"SET", target, result] if result else [b"DEL", target])
        return resp.integer(len(result))

    services.run_steps(steps(), sink, number)


COMMANDS: tuple[CommandSpec, ...] = (
    CommandSpec(
        "bitop",
        -4,
        EXCLUSIVE,
        _bitop,
        "Stores AND, OR, XOR or NOT of values, of any slots; not atomic.",
        "bitmap",
        "write denyoom",
        since="2.6.0",
        complexity="O(N)",
        key_specs=(KeySpec("OW update", 2), KeySpec("RO access", 3, last=-1)),
        arguments="operation destkey key [key ...]",
    ),
)
