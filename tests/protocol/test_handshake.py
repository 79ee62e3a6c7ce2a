"""The handshake between nodes, and sealed blocks: what an intruder may try, and that each try fails.

The property: who does not know a secret that both sides accept, or changes a single bit, gets no session, and nothing that
he sends in one comes out of it.
"""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import resp
from protocol.handshake import (
    NO_PROOF,
    PROOF_BYTES,
    BadSecret,
    HandshakeResult,
    Initiator,
    Responder,
    decode_secrets,
    encode_secrets,
    fingerprint,
    hello_fault,
    is_challenge,
)
from protocol.requests import RequestLimits, RequestReader
from protocol.seals import BLOCK_BYTES, ForgedBlock, Opener, Sealer

SECRET, OTHER = bytes(range(32)), bytes(range(1, 33))
NONCES = bytes([7]) * 32, bytes([9]) * 32


def words_of(command: bytes) -> list[bytes]:
    """The words of an encoded command."""
    reader = RequestReader(RequestLimits(1 << 20, 100, 1 << 10))
    reader.feed(command)
    (words,) = reader.next_batch(2)
    return words


def shake(
    ours: tuple[bytes, ...],
    theirs: bytes,
    nonces: tuple[bytes, bytes] = NONCES,
    channels: tuple[bytes, bytes] = (b"", b""),
) -> tuple[HandshakeResult | None, HandshakeResult | None]:
    """The sessions of an initiator with some secrets and of a responder that proves one."""
    initiator = Initiator(ours, nonces[0], channels[0])
    hello = words_of(initiator.hello)
    assert hello_fault(hello) == ""
    responder = Responder(theirs, hello, nonces[1], channels[1])
    assert is_challenge(responder.challenge)
    answer = initiator.prove(responder.challenge)
    assert len(answer) == PROOF_BYTES
    return initiator.session, responder.session(answer)


def opened() -> tuple[HandshakeResult, HandshakeResult]:
    """The sessions of both sides after a good handshake."""
    one, other = shake((SECRET,), SECRET)
    assert one is not None and other is not None
    return one, other


@pytest.mark.parametrize(
    ("ours", "theirs", "is_met"),
    [
        ((SECRET,), SECRET, True),
        ((SECRET,), OTHER, False),
        ((SECRET, OTHER), OTHER, True),
        ((OTHER, SECRET), OTHER, True),
        ((OTHER, bytes(32)), SECRET, False),
    ],
)
def test_both_sides_have_a_session_if_the_initiator_accepts_what_the_responder_proves(
    ours: tuple[bytes, ...], theirs: bytes, is_met: bool
) -> None:
    one, other = shake(ours, theirs)
    assert (one is not None, other is not None) == (is_met, is_met)
    if one is not None and other is not None:
        assert one.secret == other.secret == theirs
        assert one.sealer and one.opener and other.sealer and other.opener
        assert other.opener.open(one.sealer.seal(b"to")) == b"to"
        assert one.opener.open(other.sealer.seal(b"back")) == b"back"


def test_in_each_step_of_a_rotation_all_nodes_know_a_secret_of_each_other() -> None:
    steps = [(SECRET,), (SECRET, OTHER), (OTHER, SECRET), (OTHER,)]
    for before, after in pairwise(steps):
        for ours, theirs in ((before, after), (after, before)):
            one, other = shake(ours, theirs[0])
            assert one is not None and other is not None


def test_a_recorded_handshake_is_worth_nothing_the_second_time() -> None:
    initiator = Initiator((SECRET,), NONCES[0])
    first = Responder(SECRET, words_of(initiator.hello), NONCES[1])
    proof = initiator.prove(first.challenge)
    assert first.session(proof) is not None
    again = Responder(SECRET, words_of(initiator.hello), bytes([8]) * 32)
    assert again.session(proof) is None
    later = Initiator((SECRET,), bytes([6]) * 32)
    later.prove(first.challenge)
    assert later.session is None, "neither is what the responder has said"


def test_a_proof_cannot_be_sent_back_to_who_has_made_it() -> None:
    """An intruder without the secret lets the node that connects to him prove itself to itself."""
    initiator = Initiator((SECRET,), NONCES[0])
    responder = Responder(SECRET, words_of(initiator.hello), NONCES[0])
    proof = responder.challenge.split()[-1]
    assert responder.session(resp.command("DYN.PROOF", proof)) is None


def test_proofs_are_bound_to_the_tls_connection() -> None:
    both = shake((SECRET,), SECRET, channels=(b"certificate", b"certificate"))
    assert all(session is not None and session.sealer is None and session.opener is None for session in both)
    assert shake((SECRET,), SECRET, channels=(b"certificate", b"another")) == (None, None)
    assert shake((SECRET,), SECRET, channels=(b"certificate", b"")) == (None, None)


@pytest.mark.parametrize("place", ["version", "nonce", "proof"])
def test_what_is_no_challenge_gets_a_refusal_and_no_proof(place: str) -> None:
    initiator = Initiator((SECRET,), NONCES[0])
    good = Responder(SECRET, words_of(initiator.hello), NONCES[1]).challenge
    wrong = {"version": good.replace(b"PROVE 1", b"PROVE 2"), "nonce": good[:12] + b"x" + good[13:], "proof": good[:-9]}
    assert initiator.prove(wrong[place]) == resp.command("DYN.PROOF", NO_PROOF)
    assert initiator.session is None


@given(st.integers(0, 1023), st.sampled_from(["hello", "challenge", "proof"]))
def test_no_bit_of_a_handshake_can_be_changed(bit: int, part: str) -> None:
    def changed(data: bytes, name: str) -> bytes:
        place = bit % (8 * len(data))
        flipped = data[: place // 8] + bytes([data[place // 8] ^ 1 << place % 8]) + data[place // 8 + 1 :]
        return flipped if name == part else data

    initiator = Initiator((SECRET,), NONCES[0])
    nonce = changed(bytes.fromhex(words_of(initiator.hello)[2].decode()), "hello")
    responder = Responder(SECRET, [b"DYN.AUTH", b"1", nonce.hex().encode()], NONCES[1])
    proof = initiator.prove(changed(responder.challenge, "challenge"))
    assert initiator.session is None or part == "proof"
    assert responder.session(changed(proof, "proof")) is None


@pytest.mark.parametrize(
    "hello",
    [[b"DYN.AUTH"], [b"DYN.AUTH", b"2", b"0" * 64], [b"DYN.AUTH", b"1", b"0" * 63], [b"DYN.AUTH", b"1", b"G" * 64]],
)
def test_malformed_hellos(hello: list[bytes]) -> None:
    assert hello_fault(hello).startswith("ERR DYN.AUTH wants ")


# --- sealed blocks


def test_blocks_open_in_whatever_portions_they_come() -> None:
    rng = random.Random(5)
    for _ in range(50):
        one, other = Sealer(SECRET), Opener(SECRET)
        payloads = [rng.randbytes(rng.choice((1, 30, 3000))) for _ in range(rng.randint(1, 5))]
        stream = b"".join(one.seal(payload) for payload in payloads)
        cuts = sorted(rng.randint(0, len(stream)) for _ in range(rng.randint(0, 9)))
        found = [other.open(stream[start:end]) for start, end in pairwise([0, *cuts, len(stream)])]
        assert b"".join(found) == b"".join(payloads)
        assert not other.pending_bytes


def test_a_large_payload_travels_in_blocks_and_less_than_one_is_held_unopened() -> None:
    payload = random.Random(1).randbytes(3 * BLOCK_BYTES + 5)
    sealed, opener, found, held = Sealer(SECRET).seal(payload), Opener(SECRET), b"", 0
    for start in range(0, len(sealed), 60_000):
        found += opener.open(sealed[start : start + 60_000])
        held = max(held, opener.pending_bytes)
    assert found == payload and held <= BLOCK_BYTES + 20


@given(st.integers(0, 10_000), st.data())
def test_no_bit_of_a_stream_can_be_changed(place: int, data: st.DataObject) -> None:
    sealer = Sealer(SECRET)
    stream = b"".join(
        sealer.seal(payload) for payload in data.draw(st.lists(st.binary(min_size=1), min_size=1, max_size=3))
    )
    place %= 8 * len(stream)
    flipped = bytearray(stream)
    flipped[place // 8] ^= 1 << place % 8
    opener = Opener(SECRET)
    with pytest.raises(ForgedBlock):
        assert opener.open(bytes(flipped)) is None or opener.pending_bytes
        opener.open(bytes(BLOCK_BYTES + 20))  # what the changed size waits for


def test_blocks_are_bound_to_their_place_their_session_and_their_direction() -> None:
    one, other = opened()
    assert one.sealer and one.opener and other.sealer and other.opener
    first, second = one.sealer.seal(b"first"), one.sealer.seal(b"second")
    for wrong in (second, first[:-1] + bytes([first[-1] ^ 1]), other.sealer.seal(b"first")):
        with pytest.raises(ForgedBlock):
            opened()[1].opener.open(wrong)  # type: ignore[union-attr]
    assert other.opener.open(first) == b"first"
    with pytest.raises(ForgedBlock):
        other.opener.open(first)
    later, _ = shake((SECRET,), SECRET, nonces=(bytes([1]) * 32, NONCES[1]))
    assert later is not None and later.opener is not None
    with pytest.raises(ForgedBlock):
        later.opener.open(first)


@pytest.mark.parametrize("size", [0, BLOCK_BYTES + 1, (1 << 32) - 1])
def test_a_size_that_no_block_has_ends_the_connection_at_once(size: int) -> None:
    with pytest.raises(ForgedBlock):
        Opener(SECRET).open(size.to_bytes(4, "big"))


# --- files of secrets


def test_a_file_has_one_secret_or_two() -> None:
    for secrets in ((SECRET,), (SECRET, OTHER)):
        assert decode_secrets(encode_secrets(secrets)) == secrets
    assert decode_secrets(f"  {SECRET.hex().upper()}\n\n") == (SECRET,)
    assert fingerprint(SECRET) != fingerprint(OTHER) and len(fingerprint(SECRET)) == 12


@pytest.mark.parametrize(
    "text",
    ["", "\n", "abc", SECRET.hex()[1:], f"{SECRET.hex()}\n{SECRET.hex()}", encode_secrets([SECRET, OTHER, bytes(32)])],
)
def test_what_is_no_file_of_secrets_is_refused_without_showing_it(text: str) -> None:
    with pytest.raises(BadSecret) as error:
        decode_secrets(text)
    assert SECRET.hex()[1:] not in str(error.value)
