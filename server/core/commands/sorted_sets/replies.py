"""Replies with members and scores. RESP2 has them flat, RESP3 as pairs, but for the commands that name a key first."""

from __future__ import annotations

from collections.abc import Sequence

from protocol import resp
from protocol.resp import bulk
from server.core.commands.sliced_replies import joined_reply
from server.core.records.slicing import Slices

Pair = tuple[float, bytes]  # (score, member), as in the order


def members_reply(pairs: Sequence[Pair], with_scores: bool, resp3: bool) -> Slices[bytes]:
    """Returns an array of members, or of members and their scores."""
    if not with_scores:
        return joined_reply(b"*%d\r\n" % len(pairs), _member, pairs)
    return pairs_reply(pairs, resp3) if resp3 else flat_reply(pairs, resp3)


def _member(pair: Pair) -> bytes:
    return bulk(pair[1])


def flat_reply(pairs: Sequence[Pair], resp3: bool) -> Slices[bytes]:
    """Returns an array of members and scores in turn."""
    return joined_reply(b"*%d\r\n" % (2 * len(pairs)), lambda pair: bulk(pair[1]) + resp.double(pair[0], resp3), pairs)


def pairs_reply(pairs: Sequence[Pair], resp3: bool) -> Slices[bytes]:
    """Returns an array of arrays, each a member and its score, in both protocols."""
    return joined_reply(
        b"*%d\r\n" % len(pairs), lambda pair: b"*2\r\n" + bulk(pair[1]) + resp.double(pair[0], resp3), pairs
    )
