"""The questions that other nodes ask outside the hot path, and who answers each here (work/questions.py)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from server.core.membership.steward import is_empty
from server.core.messages import questions as asked
from server.core.messages import record_questions as records
from server.core.operators import status
from server.core.operators.sizes import own_sizes
from server.core.repair.exchange_answers import ExchangeAnswers
from server.core.requests import page_answers, replica
from server.core.work.questions import Answerer, answered_by

if TYPE_CHECKING:
    from server.core.node import Node


def answerers(node: Node) -> dict[bytes, Answerer]:
    """The answerers of `node`, by the kind of question. Its parts are looked up when they are asked."""
    state = node.state
    table = (
        answered_by(records.PAGE, lambda page: page_answers.page(state, page)),
        answered_by(records.HEADS, lambda keys: page_answers.heads(state, keys)),
        answered_by(records.KEYCOUNTS, lambda partitions: page_answers.key_counts(state, partitions)),
        answered_by(records.ABSORB, lambda pairs: replica.store_if_owned(state, pairs)),
        answered_by(records.HINTS, lambda replay: node.hint_replay.asked(replay)),
        answered_by(records.VOTE, lambda ballot: node.votes.vote(ballot)),
        answered_by(records.LINE, lambda line: node.votes.line(line)),
        answered_by(records.FENCE, lambda fence: node.votes.fence(fence)),
        answered_by(records.DROP, lambda ballot: node.votes.drop(ballot)),
        answered_by(records.COPIES, lambda keys: node.mending.copies(keys)),
        answered_by(records.VERIFY, lambda wanted: node.verification.asked(wanted)),
        answered_by(records.HOLDS, lambda sums: node.cleanup.holds(sums)),
        answered_by(asked.STATUS, lambda _: [status.own_status(node)]),
        answered_by(asked.REPAIR, lambda job: node.jobs.asked(job)),
        answered_by(asked.TASKS, lambda query: node.tasks.told(query)),
        answered_by(asked.GOING, lambda peer: node.shutdown.told(peer)),
        answered_by(asked.ADOPTED, lambda view: node.membership.adopted(view)),
        answered_by(asked.MOVED, lambda view: node.transfers.moved(view)),
        answered_by(asked.COUNTS, lambda counts: node.transfers.counts(counts)),
        answered_by(
            asked.EMPTY,
            lambda view: is_empty(state, node.membership, node.writes.is_busy, node.shutdown.is_drained, view),
        ),
        answered_by(asked.WHOLE, lambda counts: node.tasks.whole(counts)),
        answered_by(asked.SIZES, lambda partitions: own_sizes(state, node.background.busy, partitions)),
        answered_by(asked.STAGED, lambda staged: node.staging.asked(staged)),
    )
    return {**dict(table), **ExchangeAnswers(state, node.background).answerers()}
