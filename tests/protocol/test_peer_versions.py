"""Introductions and welcomes: between this version, the one before, and ones to come."""

from __future__ import annotations

import pytest

from protocol.peer_versions import (
    CAPABILITIES,
    OURS,
    Speech,
    announcement,
    common_version,
    introduced,
    refusal,
    welcome,
    welcomed,
)


def _meet(caller: Speech, called: Speech) -> tuple[Speech, Speech]:
    """What the called one knows of the caller, and the caller of the called one."""
    known = introduced(b"%d" % caller.least, [b"7", b"0", b"FOR", b"n2", b"AT", b"h:1", *announcement(caller)])
    assert known is not None
    answer = welcomed(welcome(known, ours=called))
    assert answer is not None
    return known, answer


def test_two_nodes_of_this_version_know_what_each_is_capable_of() -> None:
    assert _meet(OURS, OURS) == (OURS, Speech(1, 1, CAPABILITIES))


def test_a_newer_one_and_this_one_speak_the_highest_version_that_both_know() -> None:
    newer = Speech(1, 3, (*CAPABILITIES, b"news"))
    known, answer = _meet(newer, OURS)
    assert (known, answer) == (newer, Speech(1, 1, CAPABILITIES))
    known, answer = _meet(OURS, newer)
    assert known == OURS and answer == Speech(1, 1, newer.capabilities)


@pytest.mark.parametrize("words", [[], [b"7", b"0"], [b"7", b"0", b"FOR", b"n2", b"AT", b"h:1"]])
@pytest.mark.parametrize("pieces", [[], [b"PIECES"]])
def test_the_version_before_is_welcomed_in_its_own_words(words: list[bytes], pieces: list[bytes]) -> None:
    known = introduced(b"1", [*words, *pieces])
    assert known == Speech(1, 1, (b"pieces",) if pieces else (), False)
    assert welcome(known) == (b"+OK PIECES\r\n" if pieces else b"+OK\r\n"), "it knows no others"


@pytest.mark.parametrize(("line", "can"), [(b"+OK\r\n", ()), (b"+OK PIECES\r\n", (b"pieces",))])
def test_the_version_before_welcomes_us(line: bytes, can: tuple[bytes, ...]) -> None:
    assert welcomed(line) == Speech(1, 1, can, False)


@pytest.mark.parametrize(
    ("theirs", "ours", "common", "advice"),
    [
        (Speech(1, 1, ()), Speech(1, 1, ()), 1, ""),
        (Speech(1, 2, ()), Speech(2, 4, ()), 2, ""),
        (Speech(3, 5, ()), Speech(2, 4, ()), 4, ""),
        (Speech(2, 3, ()), Speech(1, 1, ()), None, "upgrade node n1"),
        (Speech(1, 1, ()), Speech(2, 3, ()), None, "upgrade the node that connects"),
    ],
)  # fmt: skip
def test_who_has_no_common_version_is_refused_and_told_which_node_to_upgrade(
    theirs: Speech, ours: Speech, common: int | None, advice: str
) -> None:
    assert common_version(theirs, ours) == common
    assert advice in refusal(theirs, "n1", ours)
    assert (refusal(theirs, "n1", ours) == "") == (common is not None)


@pytest.mark.parametrize("version", [b"", b"x", b"-1", b"9" * 9, b"1.0"])
def test_a_version_that_is_none(version: bytes) -> None:
    assert introduced(version, []) is None
    assert introduced(b"1", [b"MAX", version]) is None


def test_a_range_that_ends_before_it_begins() -> None:
    assert introduced(b"3", [b"MAX", b"2"]) is None


@pytest.mark.parametrize(
    "line", [b"-ERR no\r\n", b"+OK", b"+OKAY\r\n", b"", b"+OK SPEAK x\r\n", b"+OK " + b"x" * 9999 + b"\r\n"]
)
def test_what_is_no_welcome(line: bytes) -> None:
    assert welcomed(line) is None
