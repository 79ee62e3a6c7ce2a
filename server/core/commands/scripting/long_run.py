"""A script in a worker, because it takes longer than a turn may last; its commands run here.

Theory. The script begins anew in the worker: nothing of its attempt within the turn counts (run.py). Whatever it asks for
is an event (scripts/workers.py), and these steps answer it. To them a script is a row of commands of which only the next
one is known, as a transaction is one of which all are known. So the same holds for both:

    its keys are            its commands run
    of one slot             on a snapshot of its atomic run (transactions/atomic_run.py), whose keys are held until it
                            ends. Each goes through a large collection in slices. A key of the slot that it names late is
                            read then, and held from then on; the script goes on behind that
    of several slots        each by its own quorum, and the script goes on with the reply

The run waits for a late key only if nobody held it when it was asked for. Else the script begins anew with all keys that
it has named, and holds none while it waits: so two scripts never wait for each other. (Those that wait for each other in a
circle would have begun to wait one after the other, each for a key that was taken later: no circle begins so.)
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator
from typing import Any

from protocol.databases import client_key
from protocol.resp import Reply
from protocol.slots import key_slot
from server.core.base.errors import CommandError
from server.core.base.sinks import Sink
from server.core.commands.registry import find_command
from server.core.commands.scripting.permitted import ABOUT_ALL
from server.core.commands.scripting.run import KEPT_NOTHING, Outside, Run, why_stopped
from server.core.commands.slices import in_slices
from server.core.commands.transactions.atomic_run import CROSSSLOT, TOO_MANY_KEYS, read_together
from server.core.commands.transactions.snapshot import KeysMissing, Snapshot, encoded
from server.core.records.records import storage_key_of
from server.core.scripts.engine import Stopped
from server.core.scripts.workers import CALL, LOG, MAY_RUN, Ask, End
from server.core.services.script_workers import INSTRUCTIONS_PER_MS, LongScript
from server.core.services.services import Services
from server.core.work.procedures import Step

Answers = Generator[Step, Any, bytes]


class LongRun:
    """The job of `run` in the worker of `script`."""

    def __init__(self, services: Services, run: Run, script: LongScript) -> None:
        self._services = services
        self._run = run
        self.script = script
        self._late = run.late  # keys that an attempt has named late: the next ones read them at once

    def _begin(self) -> None:
        job = self._run.job
        self._run.select(job.space)
        keys = [client_key(key) for key in job.keys]
        whole_max = self._services.state.config.script_ms_max * INSTRUCTIONS_PER_MS
        self.script.begin(keys, job.args, job.seed, self._run.resp3, whole_max)

    def _next_command(self) -> Generator[Step, Any, Ask | End]:
        """The next command of the script that needs keys or other nodes; or its end. Answers all else."""
        script = self.script
        while True:
            event: Ask | End | None = yield script.next_event()
            if isinstance(event, Ask):
                if event.kind == LOG:
                    self._services.scripts.log(event.option, event.words[0])
                    script.answer(None)
                elif event.kind == MAY_RUN:
                    script.answer(self._run.may_run(event.words))
                else:
                    assert event.kind == CALL, "there are no other kinds"
                    answer = self._run.answer(event.words)
                    if answer is None:
                        return event
                    script.answer(answer)
            elif event is not None:
                return event

    def _reply(self, end: End) -> bytes:
        """The reply of a script that has ended. Raises CommandError if it was stopped."""
        if end.failure is not None:
            raise end.failure
        if not end.stopped:
            return end.reply
        function = bool(self.script.program.function)
        text = why_stopped(self._services, Stopped(end.stopped), function, in_worker=True)
        raise CommandError(text + ("" if self.script.has_written else KEPT_NOTHING))

    # --- on a snapshot

    def on_snapshot(self, snapshot: Snapshot, like: Sink) -> Generator[Step, Any, Reply]:
        """Runs the script on a snapshot of keys of one slot, or of none. As Run.on_snapshot."""
        script = self.script
        self._begin()
        script.held = snapshot.storage_keys()
        try:
            late = [key for key in self._late if storage_key_of(key) not in script.held]
            if late and self._may_fetch(late):
                yield from self._fetch(snapshot, late)
            while True:
                event = yield from self._next_command()
                if isinstance(event, End):
                    script.is_over = True
                    return self._reply(event)
                spec = find_command(event.words)
                if spec is not None and spec.name in ABOUT_ALL:
                    raise Outside
                script.answer((yield from self._on_snapshot(snapshot, like, event)))
        finally:
            script.held = []

    def _on_snapshot(self, snapshot: Snapshot, like: Sink, ask: Ask) -> Answers:
        run = self._run
        args = run.inner(ask.words)
        while True:
            like.resp3, like.space = ask.option == 3, run.space
            try:
                reply = yield from in_slices(self._services, snapshot.run_in_slices(args))
                return bytes(encoded(reply))
            except KeysMissing as missing:
                keys = missing.keys
                if missing.has_begun or not self._may_fetch(keys):
                    raise
            yield from self._fetch(snapshot, keys)

    def _may_fetch(self, keys: list[bytes]) -> bool:
        """Whether the step may wait for these keys while it holds others: they must have the owners of its own ones, as in
        atomic_run.py, or be of its slot where that is strict."""
        services, declared = self._services, self._run.job.all_keys()
        if not declared:
            return False
        slot, plan = key_slot(declared[0]), services.route(declared[0]).plan
        is_strict, holds = services.state.config.multi_slots == "strict", services.state.holds
        return all(
            services.route(key).plan is plan
            and not (is_strict and key_slot(key) != slot)
            and not holds.is_held(storage_key_of(key))
            for key in keys
        )

    def _fetch(self, snapshot: Snapshot, keys: list[bytes]) -> Generator[Step, Any, None]:
        """Reads keys that the script has named late, and holds them."""
        keys_max = self._services.state.config.transaction_keys_max
        if len(snapshot.storage_keys()) + len(keys) > keys_max:
            slots = {key_slot(key) for key in [*self._run.job.all_keys(), *self._late, *keys]}
            raise CommandError(
                TOO_MANY_KEYS % keys_max if len(slots) == 1 else CROSSSLOT
            )  # which is no limit elsewhere
        self._late |= dict.fromkeys(keys)
        found = yield read_together(self._services, keys)
        snapshot.add(found)
        for storage_key in found:
            self._services.state.holds.hold(storage_key)
        self.script.held = snapshot.storage_keys()

    # --- command by command

    def begin(self) -> None:
        """Begins a script over keys of several slots."""
        self._begin()

    def next_unanswered(self, replies: deque[bytes]) -> Generator[Step, Any, Ask | bytes]:
        """The next command of a script over several slots, after those that have had `replies`; or its own reply."""
        while True:
            event = yield from self._next_command()
            if isinstance(event, End):
                return self._reply(event)
            if not replies:
                return event
            self.script.answer(replies.popleft())
