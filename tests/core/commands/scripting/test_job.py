"""A call of a script as it travels to the coordinator of its keys."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.core.base.errors import CommandError
from server.core.commands.registry import find_command
from server.core.commands.scripting.job import Job, decode

WORDS = st.lists(st.binary(max_size=8), max_size=4)


@given(WORDS, WORDS, WORDS, st.booleans(), st.permutations(range(16)), st.integers(0, (1 << 31) - 1))
def test_what_is_sent_is_what_is_read(
    keys: list[bytes], reached: list[bytes], args: list[bytes], read_only: bool, spaces: list[int], seed: int
) -> None:
    job = Job(b"a" * 40, b"user", read_only, seed, keys, args, reached, spaces[0], tuple(spaces))
    call = job.encode()
    assert decode(call) == job
    if keys or reached:
        spec = find_command(call)
        assert spec is not None and spec.keys_of(call) == [*keys, *reached]


@pytest.mark.parametrize(
    "call",
    [
        [b"DYN.EVAL", b"x", b"k", b"a" * 40, b"user", b"1.0", b"0"],
        [b"DYN.EVAL", b"9", b"k", b"a" * 40, b"user", b"1.0", b"0"],
        [b"DYN.EVAL", b"1", b"k", b"short", b"user", b"1.0", b"0"],
        [b"DYN.EVAL", b"1", b"k", b"a" * 40, b"user", b"2.0", b"0"],
        [b"DYN.EVAL", b"1", b"k", b"a" * 40, b"user", b"1", b"0"],
        [b"DYN.EVAL", b"1", b"k", b"a" * 40, b"user", b"1.0", b"-1"],
        [b"DYN.EVAL", b"1", b"k", b"a" * 40, b"user", b"1.0.0123", b"0"],
        [b"DYN.EVAL", b"1", b"k", b"a" * 40, b"user", b"1.0.00123456789abcde", b"0"],
        [b"DYN.EVAL", b"1", b"k", b"a" * 40, b"user", b"1.0.0123456789abcdeg", b"0"],
    ],
)
def test_a_malformed_call_is_refused(call: list[bytes]) -> None:
    with pytest.raises(CommandError, match="malformed script"):
        decode(call)
