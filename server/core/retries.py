"""Relayed commands that came back (requests/relays.py): each is routed anew, or answered.

Theory. A command whose coordinator was lost goes to the key's next live owner, as long as there is time. If the lost
coordinator may have run it and it must not run twice (INCR, SET NX), nobody knows its outcome, and the client is told so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from protocol.slots import key_slot
from server.core.base.errors import no_owner, refused_command
from server.core.base.sinks import Sink
from server.core.chains import Chains
from server.core.commands.spec import READ
from server.core.commands.table import find_command
from server.core.requests.relay_rows import MAYBE_RUN, OWN, UNREACHABLE, RelayItem, Returned
from server.core.requests.relay_sinks import SecondAttempt
from server.core.requests.relays import STALE
from server.core.requests.unanswered import unanswered
from server.core.services.services import Services


class Retries:
    """Retries commands; `run` runs one for its sink, here."""

    def __init__(self, services: Services, run: Callable[[Sink, int, list[bytes]], None], chains: Chains) -> None:
        self._services = services
        self._state = services.state
        self._run = run
        self._chains = chains

    def retry_returned(self) -> bool:
        """Routes anew the relayed commands that came back, or answers them. Returns whether there were any."""
        relays = self._services.relays
        if not relays.returned:
            return False
        for each in relays.drain_returned():
            if each.reason == OWN:
                for item in each.items:
                    self._run(item.sink, item.number, item.args)
            elif each.reason == UNREACHABLE:
                for item in each.items:
                    self._refuse(item.sink, item.number, item.args)
            elif each.in_order:
                self._retry_in_order(each)
            else:
                for item in each.items:
                    self._retry(each, item)
        return True

    def repeatable(self, items: Sequence[RelayItem | None]) -> list[int]:
        """Returns the places of the commands that may run at another node although the first one may have run them, and
        that do not follow another command for one of their keys."""
        places: list[int] = []
        held: set[bytes] = set()
        for place, item in enumerate(items):
            if item is None:
                continue
            spec = find_command(item.args)
            assert spec is not None, "only known commands are relayed"
            keys = spec.keys_of(item.args)
            if (spec.once(item.args) and not item.sink.repeats(item.args)) or not held.isdisjoint(keys):
                held.update(keys)
            else:
                places.append(place)
        return places

    def _retry(self, returned: Returned, item: RelayItem) -> None:
        """A relayed command whose coordinator was lost goes to the key's next live owner."""
        number, args, state = item.number, item.args, self._state
        sink = self._sink_for_retry(returned, item)
        if sink is None:
            return
        spec = find_command(args)
        assert spec is not None, "only known commands are relayed"
        route = state.routes[key_slot(spec.keys_of(args)[0]) >> state.route_shift]
        choose = route.reader_for if spec.overlap == READ else route.coordinator_for
        target = choose(sink.relayed)
        if target is None:
            self._run(sink, number, args)
        else:
            self._services.relays.forward(sink, number, args, target, item.begun_ms)

    def _retry_in_order(self, returned: Returned) -> None:
        """As `_retry`, for commands that were relayed to be run in order."""
        chain: list[RelayItem] = []
        for item in returned.items:
            sink = self._sink_for_retry(returned, item)
            if sink is not None:
                chain.append(RelayItem(sink, item.number, item.args, item.begun_ms))
        self._chains.run_all(chain)

    def _sink_for_retry(self, returned: Returned, item: RelayItem) -> Sink | None:
        """Returns the sink for the retry of a command; or answers a command that must not be retried, and returns None."""
        sink, number, args, state = item.sink, item.number, item.args, self._state
        maybe_run = returned.reason == MAYBE_RUN
        spec = find_command(args)
        assert spec is not None, "only known commands are relayed"
        if self._services.relays.is_stale(sink):
            sink.answer(number, STALE)  # whoever relayed it to this node may have retried it elsewhere
            return None
        if state.quarantine.commands and state.quarantine.refuses_command(args, state.wall_ms):
            sink.answer(number, refused_command(state.member.name, "maybe-written" if maybe_run else "unwritten"))
            return None
        runs_once = maybe_run and spec.once(args) and not sink.repeats(args)
        if runs_once or state.now_ms - item.begun_ms > state.config.request_timeout_ms:
            state.statistics.timeouts += 1
            outcome = "unread" if spec.overlap == READ else "maybe-written" if maybe_run else "unwritten"
            sink.answer(number, returned.refusal or unanswered(returned.trouble, outcome))
            return None
        state.statistics.relays_retried += 1
        if maybe_run and spec.overlap != READ and not isinstance(sink, SecondAttempt):
            is_unsure = spec.null_is_unsure(args)
            return SecondAttempt(sink, unanswered(returned.trouble, "maybe-written") if is_unsure else None)
        return sink

    def _refuse(self, sink: Sink, number: int, args: list[bytes]) -> None:
        """Answers a command whose key has no owner that can be reached from here."""
        state = self._state
        if state.layout is None:
            sink.answer(number, state.no_layout)
            return
        state.statistics.no_quorum += 1
        spec = find_command(args)
        outcome = "unread" if spec is not None and spec.overlap == READ else "unwritten"
        sink.answer(number, no_owner(state.member.name, outcome))
