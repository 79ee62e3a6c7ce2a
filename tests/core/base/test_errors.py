"""Errors with an outcome: what they say, how those of other nodes are read, and what a second attempt makes of them."""

from __future__ import annotations

import pytest

from server.core.base.errors import (
    EXPLAINED,
    ErrorReply,
    Failure,
    covered_refused,
    damaged_here,
    disks_full,
    has_left,
    internal_error,
    no_owner,
    no_owner_and_no_hint,
    no_quorum,
    no_read_quorum,
    read_failed,
    timed_out,
)
from server.core.base.quorum import Tally
from server.core.requests.unanswered import came_late, fell_silent, is_slow, link_broke, unanswered

MAYBE_BEFORE = "a node that has not answered may have written it before"
WRITES = {
    "no quorum": no_quorum(Tally(3, 2), "write", "unwritten"),
    "timed out": timed_out(Tally(3, 2), "write", "maybe-written", 1500),
    "disks full": disks_full(Tally(3, 2), ["n1", "n2"]),
    "lost": unanswered(link_broke("n2"), "maybe-written"),
    "silent": unanswered(fell_silent("n2", 1500), "unwritten"),
    "slow": unanswered(is_slow("n2", 5500), "maybe-written"),
    "late": unanswered(came_late("n2"), "unwritten"),
    "damaged": damaged_here("n1", ValueError("a damaged record")),
    "covered": covered_refused("ERR node n2 has no room for another hint"),
    "internal": internal_error("abcd", "KeyError", "set", "n1", "unwritten"),
    "no owner": no_owner("n1", "unwritten"),
    "no hint": no_owner_and_no_hint("n1").reply(),
    "left": has_left("n1", 7),
    "plain": ErrorReply.of("WRONGTYPE Operation against a key holding the wrong kind of value"),
}
# As the version before has encoded them.
OF_EARLIER_VERSIONS = [
    b"-NOQUORUM write: got=1 wanted=2 hinted=0 outcome=unwritten: 1 of 3 replicas answered, 2 are needed; nothing was "
    b"written\r\n",
    b"-DISKFULL write: got=1 wanted=2 hinted=0 outcome=unwritten: nothing was written, for there is no room on n2: free "
    b"some disk space there\r\n",
    b"-NOQUORUM no owner of this key can be reached, and node n3 has no room for another hint: got=0 wanted=1 hinted=0 "
    b"outcome=unwritten\r\n",
    b"-CLUSTERDOWN node n1 has left its cluster at epoch 7: use another node of the cluster\r\n",
]


def text_of(reply: bytes) -> str:
    assert reply[:1] == b"-" and reply[-2:] == b"\r\n"
    return reply[1:-2].decode()


def test_the_texts() -> None:
    assert text_of(WRITES["no quorum"]) == (
        "NOQUORUM write: got=0 wanted=2 hinted=0 outcome=unwritten: 0 of 3 replicas answered, 2 are needed; nothing was "
        "written"
    )
    assert text_of(WRITES["disks full"]) == (
        "DISKFULL write: got=0 wanted=2 hinted=0 outcome=unwritten: there is no room on n1, n2; nothing was written; free "
        "some disk space there"
    )
    assert text_of(unanswered(is_slow("n2", 5500), "unread")) == (
        "TIMEOUT node n2, which coordinates this key, is there but has not answered within 5500 ms: got=0 wanted=1 "
        "hinted=0 outcome=unread: nothing was read; try again"
    )
    assert text_of(no_read_quorum("replicas of slots 0-127", 1, 2, 3).reply()) == (
        "NOQUORUM read: got=1 wanted=2 hinted=0 outcome=unread: 1 of 3 replicas of slots 0-127 answered, 2 are needed; "
        "nothing was read"
    )


def test_a_read_that_fails_is_told_in_terms_of_the_clients_command() -> None:
    failed = no_read_quorum("replicas", 1, 2, 3).reply()
    told = read_failed(failed, [b"hset", b"key", b"field", b"value"])
    assert text_of(told) == (
        "NOQUORUM read for HSET: got=1 wanted=2 hinted=0 outcome=unread: 1 of 3 replicas answered, 2 are needed; nothing "
        "was read"
    )
    whole = text_of(read_failed(told, [b"RENAME", b"key", b"other"]))
    assert whole.startswith("NOQUORUM read for RENAME: got=1") and "HSET" not in whole
    assert whole.endswith("; nothing was read")
    late = timed_out(Tally(3, 2), "read", "unread", 3000)
    assert text_of(read_failed(ErrorReply(bytes(late)), [b"INCR", b"key"])).startswith(
        "TIMEOUT read within 3000 ms for INCR: got=0 wanted=2 hinted=0 outcome=unread: "
    )
    assert read_failed(failed, None) is failed, "background work has no client"
    assert read_failed(failed, [b"DYN.EVAL", b"script"]) is failed, "no client has sent that"
    for reply in WRITES.values():
        assert read_failed(reply, [b"HSET", b"key"]) is reply


@pytest.mark.parametrize("what", WRITES)
def test_an_error_keeps_its_parts_and_they_can_be_read_from_its_text(what: str) -> None:
    reply = WRITES[what]
    kept, read = Failure.read(reply), Failure.read(bytes(reply))
    assert (kept.what, kept.counts, kept.outcome) == (read.what, read.counts, read.outcome)
    assert "outcome=" not in read.what and (read.outcome in EXPLAINED or not read.outcome)
    if reply.failure is not None:
        assert kept is reply.failure
        assert sorted(filter(None, (kept.reason, kept.advice))) == sorted(filter(None, read.reason.split("; ")))


@pytest.mark.parametrize("reply", [*WRITES.values(), *map(bytes, WRITES.values()), *OF_EARLIER_VERSIONS])
def test_a_second_attempt_never_says_that_nothing_was_written(reply: bytes) -> None:
    text = text_of(Failure.read(reply).after_lost_attempt().reply())
    assert text.count("outcome=") == 1 and "outcome=maybe-written" in text
    assert "nothing was written" not in text
    assert text.count(MAYBE_BEFORE) == 1
    code, counts = text_of(reply).split(" ", 1)[0], [word for word in text_of(reply).split() if word.startswith("got=")]
    assert text.startswith("ERR " if code == "CLUSTERDOWN" else code + " ")
    assert [word for word in text.split() if word.startswith("got=")] == counts


def test_an_outcome_that_only_a_newer_node_knows_is_part_of_the_text() -> None:
    failure = Failure.read(b"-TIMEOUT write: got=1 wanted=2 hinted=0 outcome=undecided: perhaps\r\n")
    assert (failure.what, failure.outcome) == (
        "TIMEOUT write: got=1 wanted=2 hinted=0 outcome=undecided: perhaps",
        "",
    )
