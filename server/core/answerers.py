"""The questions that other nodes ask outside the hot path, and who answers each here (work/questions.py)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from server.core.membership.steward import is_empty
from server.core.operators import status
from server.core.operators.sizes import own_sizes
from server.core.repair.exchange_answers import ExchangeAnswers
from server.core.requests import page_answers, replica
from server.core.work.questions import Answerer

if TYPE_CHECKING:
    from server.core.node import Node


def answerers(node: Node) -> dict[bytes, Answerer]:
    """The answerers of `node`, by the kind of question. Its parts are looked up when they are asked."""
    state = node.state
    return {
        b"PAGE": lambda args: page_answers.page(state, args),
        b"HEADS": lambda args: page_answers.heads(state, args),
        b"KEYCOUNTS": lambda args: page_answers.key_counts(state, args),
        b"STATUS": lambda args: [status.own_status(node)],
        b"ABSORB": lambda args: replica.absorb(state, args),
        b"HINTS": lambda args: node.hint_replay.asked(args),
        b"VOTE": lambda args: node.votes.vote(args),
        b"LINE": lambda args: node.votes.line(args),
        b"FENCE": lambda args: node.votes.fence(args),
        b"DROP": lambda args: node.votes.drop(args),
        b"COPIES": lambda args: node.mending.copies(args),
        b"REPAIR": lambda args: node.jobs.asked(args),
        b"TASKS": lambda args: node.tasks.told(args),
        b"GOING": lambda args: node.farewell.told(args),
        b"ADOPTED": lambda args: node.membership.adopted(args),
        b"MOVED": lambda args: node.transfers.moved(args),
        b"COUNTS": lambda args: node.transfers.counts(args),
        b"EMPTY": lambda args: is_empty(state, node.membership, node.writes.is_busy, node.farewell.has_rested, args),
        b"HOLDS": lambda args: node.eviction.holds(args),
        b"VERIFY": lambda args: node.verification.asked(args),
        b"WHOLE": lambda args: node.tasks.whole(args),
        b"SIZES": lambda args: own_sizes(state, node.background.busy, args),
        b"STAGED": lambda args: node.staging.asked(args),
        **ExchangeAnswers(state, node.background).answerers(),
    }
