"""The questions that other nodes ask outside the hot path, and who answers each here (work/questions.py)."""

from __future__ import annotations

from server.core.commands.pubsub.asking import subscribed
from server.core.commands.scripting.script_command import flush_here, known_here
from server.core.commands.wait_command import written
from server.core.commands.waitaof_command import synced
from server.core.membership.change_coordinator import is_empty
from server.core.messages import exchange_questions as exchanges
from server.core.messages import questions as asked
from server.core.messages import record_questions as records
from server.core.messages import script_questions as scripts
from server.core.messages.announcements import LayoutView
from server.core.messages.libraries import LIBKNOWN, LIBRARY
from server.core.messages.numberings import KNOWSWAPS, NUMBERED, SWAP
from server.core.messages.traces import TRACE
from server.core.operators import status
from server.core.operators.sizes import own_sizes
from server.core.repair.exchange_answers import ExchangeAnswers
from server.core.requests import page_answers, replica
from server.core.services.services import Services
from server.core.work.questions import Answerer, answered_by


def answerers(services: Services) -> dict[bytes, Answerer]:
    """The functions that answer, by the kind of question."""
    state = services.state
    table = (
        answered_by(records.PAGE, lambda page: page_answers.page(state, page)),
        answered_by(records.HEADS, lambda keys: page_answers.heads(state, keys)),
        answered_by(records.KEYCOUNTS, lambda asked: page_answers.key_counts(state, asked)),
        answered_by(exchanges.ABSORB, lambda pairs: replica.store_if_owned(state, pairs)),
        answered_by(records.HINTS, lambda replay: services.hint_replay.asked(replay)),
        answered_by(records.WRITERS, lambda _: (state.actor, state.guest_actor)),
        answered_by(records.VOTE, lambda ballot: services.votes.vote(ballot)),
        answered_by(records.LINE, lambda line: services.votes.line(line)),
        answered_by(records.FENCE, lambda fence: services.votes.fence(fence)),
        answered_by(records.DROP, lambda ballot: services.votes.drop(ballot)),
        answered_by(records.COPIES, lambda keys: services.mending.copies(keys)),
        answered_by(records.VERIFY, lambda wanted: services.verification.asked(wanted)),
        answered_by(records.HOLDS, lambda sums: services.cleanup.holds(sums)),
        answered_by(TRACE, lambda trace: services.traces.document(trace)),
        answered_by(asked.STATUS, lambda _: status.own_status(services)),
        answered_by(asked.REPAIR, lambda job: services.jobs.asked(job)),
        answered_by(asked.TASKS, lambda query: services.tasks.answer_tasks(query)),
        answered_by(asked.PAUSE, lambda pause: services.transfers.pause(pause)),
        answered_by(asked.GOING, lambda peer: services.shutdown.shutdown_announced(peer)),
        answered_by(asked.ADOPTED, lambda view: services.membership.adopted(view)),
        answered_by(asked.MOVED, lambda view: services.transfers.moved(view)),
        answered_by(asked.CONFIRMED, lambda view: services.full_repair.confirmed(view)),
        answered_by(asked.REPAIRED, lambda view: services.full_repair.repaired(view)),
        answered_by(asked.COUNTS, lambda counts: services.transfers.counts(counts)),
        answered_by(asked.EMPTY, lambda view: _is_empty(services, view)),
        answered_by(asked.WHOLE, lambda counts: services.tasks.whole(counts)),
        answered_by(asked.SIZES, lambda partitions: own_sizes(state, services.background.busy, partitions)),
        answered_by(asked.STAGED, lambda staged: services.staging.asked(staged)),
        answered_by(asked.SUBSCRIPTIONS, lambda wanted: subscribed(services, wanted)),
        answered_by(asked.WRITTEN, lambda period: written(services, period)),
        answered_by(asked.SYNCED, lambda since_ago_ms: synced(services, since_ago_ms)),
    )
    others = {**_about_scripts(services), **_about_databases(services)}
    return {**dict(table), **others, **ExchangeAnswers(state, services.background).answerers()}


def _about_scripts(services: Services) -> dict[bytes, Answerer]:
    """The same for questions about scripts and libraries."""
    return dict([
        answered_by(scripts.SCRIPT, lambda sha: services.scripts.text_of(sha)),
        answered_by(scripts.SCRIPTS, lambda shas: known_here(services, shas)),
        answered_by(scripts.SCRIPTFLUSH, lambda _: flush_here(services)),
        answered_by(scripts.SCRIPTKILL, lambda functions: services.scripts.workers.kill(functions)),
        answered_by(LIBRARY, lambda sha: services.functions.text_of(sha)),
        answered_by(LIBKNOWN, lambda _: True),
    ])  # fmt: skip


def _about_databases(services: Services) -> dict[bytes, Answerer]:
    """The same for questions about the numbering of databases."""
    return dict([
        answered_by(SWAP, lambda swap: services.numbering.swap(swap)),
        answered_by(NUMBERED, lambda document: services.numbering.answer_numbered(document)),
        answered_by(KNOWSWAPS, lambda nodes: bytes(map(services.state.with_swaps.has_announced, nodes))),
    ])  # fmt: skip


def _is_empty(services: Services, view: LayoutView | None) -> bool | None:
    return is_empty(services.state, services.membership, services.writes.is_busy, services.shutdown.is_drained, view)
