"""SWAPDB: two databases exchange what they hold, on all nodes (https://redis.io/docs/latest/commands/swapdb/).

Theory. The node of the client has the swap ordered by one node, takes over the document that results, and asks all other
members to do so (services/numbering.py). It answers OK once each member that is not known to be down has adopted the swap.
Nodes that have not answered are asked again until `request_timeout_ms` have passed. Then an error says what is known.

The swap has an id, so it may be asked for again, and of another node, without being done twice. A node that has not
answered may have ordered it. So if another one refuses afterwards, that does not mean that nothing was swapped.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, Final

from protocol import resp
from protocol.databases import DATABASES
from server.core.base.errors import CommandError
from server.core.base.sinks import Session, Sink
from server.core.base.state import State
from server.core.commands.arguments import integer
from server.core.commands.databases import numbering_for
from server.core.commands.operator import layout_of
from server.core.commands.spec import ALONE, CommandSpec
from server.core.liveness.liveness import PeerState
from server.core.messages.numberings import NUMBERED, SWAP, Swap, Swapped
from server.core.services.services import Services
from server.core.shared import numberings
from server.core.work.procedures import Step, Steps

_ROUND_MS: Final = 500  # then those are asked again that have not answered
_ADVICE: Final = "Look which database holds what before you repeat it: a second SWAPDB would swap them back"
_UNKNOWN: Final = (
    "TIMEOUT node {}, which orders swaps, has not answered within request_timeout_ms={}: databases {} and {} may be "
    "swapped. " + _ADVICE
)
_UNCONFIRMED: Final = (
    "TIMEOUT databases {} and {} are swapped, but nodes have not confirmed it within request_timeout_ms={}: {}. They may "
    "serve the former databases until they can be reached. " + _ADVICE
)


def _swapdb(services: Services, sink: Sink, number: int, args: list[bytes]) -> bytes | None:
    """SWAPDB index1 index2."""
    if services.state.config.cluster_mode:
        raise CommandError("ERR SWAPDB is not allowed in cluster mode")
    first, second = _number(args[1], "first"), _number(args[2], "second")
    for index in (first, second):
        if not 0 <= index < DATABASES:
            raise CommandError("ERR DB index is out of range")
    if first == second:
        return resp.OK
    layout_of(services)
    services.run_steps(_steps(services, sink, first, second), sink, number)
    return None


def _number(word: bytes, which: str) -> int:
    """A number of 32 bits, as Redis reads those of databases in SWAPDB. Raises CommandError."""
    try:
        index = integer(word)
    except CommandError as error:
        raise CommandError(f"ERR invalid {which} DB index") from error
    if not -(1 << 31) <= index < 1 << 31:
        raise CommandError(f"ERR invalid {which} DB index")
    return index


def _steps(services: Services, sink: Sink, first: int, second: int) -> Steps:
    state = services.state
    # That of a transaction or a script, too: what follows in it sees the swap.
    database = sink.database if isinstance(sink, Session) else numbering_for(state, sink).numbers[sink.space]
    swap_id = numberings.swap_id(state.time_ms, state.rng)
    deadline_ms = state.now_ms + state.config.request_timeout_ms
    silent = ""  # the last node that was asked to order the swap and has not answered
    try:
        while True:
            try:
                coordinator = yield from _ordered(services, swap_id, first, second, deadline_ms)
            except CommandError:
                if not silent:
                    raise
                coordinator = silent
            silent = coordinator or silent
            missing = (yield from _unconfirmed(services, swap_id, deadline_ms)) if coordinator == "" else []
            has_swap = services.numbering.has_swap(swap_id)
            if has_swap and not missing:
                return resp.OK
            if state.now_ms >= deadline_ms:
                raise CommandError(_timeout(services, coordinator, missing, first, second))
            yield services.timers.sleep_until(state.now_ms + state.config.tick_ms)
    finally:
        sink.space = state.numbering.spaces[database]
        if sink.kept_numbering is not None:
            sink.kept_numbering = state.numbering


def _ordered(services: Services, swap_id: str, first: int, second: int, deadline_ms: int) -> Generator[Step, Any, str]:
    """Has the swap ordered, unless it is in force here. Returns the name of the node that has not answered, or an empty
    text. Raises CommandError if the node refuses, or some member may not know the question."""
    state, numbering = services.state, services.numbering
    if numbering.has_swap(swap_id):
        return ""
    numbering.check_members()
    layout = layout_of(services)
    coordinator = min([each.id for each in layout.members if each.id == state.id or state.is_usable(each.id)])
    swap = Swap(swap_id, first, second, numbering.sharing.document)
    answers = yield services.questions.ask([coordinator], SWAP, swap, _round_ms(state, deadline_ms))
    swapped: Swapped | None = answers.get(coordinator)
    if swapped is None:
        return state.layout_name(coordinator)
    numbering.merge(swapped.document)
    if swapped.refusal:
        raise CommandError(swapped.refusal)
    return ""


def _unconfirmed(services: Services, swap_id: str, deadline_ms: int) -> Generator[Step, Any, list[str]]:
    """Asks all members that know swaps to adopt it. Returns the names of those that have not, and are not known to be down.

    Those that are known to be down are asked, too: one that was frozen has the document before it reads anything later."""
    state, numbering = services.state, services.numbering
    ids = [member.id for member in layout_of(services).members if member.id != state.id]
    others = [node for node in ids if not state.with_swaps.is_unable(node)]
    answers = yield services.questions.ask(
        others,
        NUMBERED,
        numbering.sharing.document,
        _round_ms(state, deadline_ms),
        is_complete=lambda answers: all(node in answers for node in _awaited(services)),
    )
    for document in answers.values():
        if document is not None:
            numbering.merge(document)
    cluster = layout_of(services).cluster
    adopted = [node for node, each in answers.items() if each is not None and each.has_swap(cluster, swap_id)]
    return [state.layout_name(node) for node in _awaited(services) if node not in adopted]


def _awaited(services: Services) -> list[str]:
    """The other members that are not known to be down. One that is suspect may serve clients."""
    state = services.state
    ids = [member.id for member in layout_of(services).members if member.id != state.id]
    return [node for node in ids if state.liveness.state(node) is not PeerState.DOWN]


def _round_ms(state: State, deadline_ms: int) -> int:
    return max(0, min(_ROUND_MS, deadline_ms - state.now_ms))


def _timeout(services: Services, coordinator: str, missing: list[str], first: int, second: int) -> str:
    timeout_ms = services.state.config.request_timeout_ms
    if missing:
        return _UNCONFIRMED.format(first, second, timeout_ms, ", ".join(missing))
    return _UNKNOWN.format(coordinator or services.state.member.name, timeout_ms, first, second)


COMMANDS: tuple[CommandSpec, ...] = (
    CommandSpec(
        "swapdb",
        3,
        ALONE,
        _swapdb,
        "Exchanges what two databases hold, on all nodes.",
        "server",
        "write fast dangerous",
        since="4.0.0",
        complexity="O(N) where N is the number of clients watching or blocking on keys from both databases.",
        arguments="index1:integer index2:integer",
    ),
)
