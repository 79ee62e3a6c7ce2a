"""Retries of relayed commands that came back from their coordinator without a reply.

Theory. A command may have been run by a coordinator that was lost before it replied.

    the coordinator               a command that may run twice      one that must not (SET NX, for example)
    has not run the command       is routed again                   is routed again
    may have run the command      is routed again, and if that      gets an error: its outcome is unknown
                                  fails, the error says so

A command that has waited for longer than `request_timeout_ms` gets an error in any case. So does a command that another
node has relayed to this one, if that relay is stale by now: its sender may have retried it elsewhere."""

from __future__ import annotations

from protocol.slots import key_slot
from server.core.base.errors import coordinator_lost, no_owner, refused_command
from server.core.base.sinks import Sink
from server.core.chains import Chains, Run
from server.core.commands.spec import READ
from server.core.commands.table import find_command
from server.core.requests.relay_rows import MAYBE_RUN, OWN, UNREACHABLE, RelayItem
from server.core.requests.relay_sinks import SecondAttempt
from server.core.requests.relays import STALE
from server.core.services.services import Services


class Retries:
    """Routes returned commands again, or answers them. `run` runs a command at this node."""

    def __init__(self, services: Services, run: Run, chains: Chains) -> None:
        self._services = services
        self._state = services.state
        self._run = run
        self._chains = chains
        self._refused = services.state.quarantine.commands

    def retry_returned(self) -> bool:
        """Retries or answers the relayed commands that came back. Returns whether there were any."""
        relays = self._services.relays
        if not relays.returned:
            return False
        for each in relays.drain_returned():
            maybe_run = each.reason == MAYBE_RUN
            if each.reason == OWN:
                for item in each.items:
                    self._run(item.sink, item.number, item.args)
            elif each.reason == UNREACHABLE:
                for item in each.items:
                    self._refuse(item.sink, item.number, item.args)
            elif each.in_order:
                self._retry_in_order(each.items, maybe_run)
            else:
                for item in each.items:
                    self._retry(item, maybe_run, each.refusal)
        return True

    def _retry(self, item: RelayItem, maybe_run: bool, refusal: bytes | None) -> None:
        """Routes a command to its key's next live owner, or answers it, by the table above.

        `maybe_run`: the lost coordinator may have run it. `refusal`: the error for a command that must not run twice; None:
        its outcome is unknown.
        """
        sink = self._sink_for(item, maybe_run, refusal)
        if sink is None:
            return
        spec, state = find_command(item.args), self._state
        assert spec is not None, "only known commands are relayed"
        route = state.routes[key_slot(spec.keys_of(item.args)[0]) >> state.route_shift]
        choose = route.reader_for if spec.overlap == READ else route.coordinator_for
        target = choose(sink.relayed)
        if target is None:
            self._run(sink, item.number, item.args)
        else:
            self._services.relays.forward(sink, item.number, item.args, target, item.begun_ms)

    def _retry_in_order(self, items: list[RelayItem], maybe_run: bool) -> None:
        """Does what `_retry` does, for the commands of a chain."""
        chain: list[RelayItem] = []
        for item in items:
            sink = self._sink_for(item, maybe_run, None)
            if sink is not None:
                chain.append(RelayItem(sink, item.number, item.args, item.begun_ms))
        self._chains.run_all(chain)

    def _sink_for(self, item: RelayItem, maybe_run: bool, refusal: bytes | None) -> Sink | None:
        """Returns the sink for the second attempt of a command; None if it must not run again, and was answered."""
        sink, number, args, state = item.sink, item.number, item.args, self._state
        spec = find_command(args)
        assert spec is not None, "only known commands are relayed"
        if self._services.relays.is_stale(sink):
            sink.answer(number, STALE)
            return None
        if self._refused and state.quarantine.refuses_command(args, state.wall_ms):
            sink.answer(number, refused_command(state.member.name, "maybe-written" if maybe_run else "unwritten"))
            return None
        if (maybe_run and spec.once(args)) or state.now_ms - item.begun_ms > state.config.request_timeout_ms:
            state.statistics.timeouts += 1
            sink.answer(number, refusal or coordinator_lost("unread" if spec.overlap == READ else "maybe-written"))
            return None
        state.statistics.relays_retried += 1
        if maybe_run and spec.overlap != READ and not isinstance(sink, SecondAttempt):
            return SecondAttempt(sink)
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
