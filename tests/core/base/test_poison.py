"""What has ended a node is known again when a client repeats it."""

from __future__ import annotations

from server.core.base.poison import poison_of_command
from server.core.commands.scripting.job import Job


def _script(seed: int, argument: bytes = b"x") -> str:
    return poison_of_command(Job(b"a" * 40, b"default", False, seed, [b"k", b"l"], [argument], [], 0).encode()).digest


def test_a_script_is_known_again_whatever_its_seed_is() -> None:
    assert _script(1) == _script(2)
    assert _script(1) != _script(1, b"y")


def _attempt(number: bytes, key: bytes = b"k") -> str:
    return poison_of_command([b"DYN.TRY", key, b"0" * 40, number, b"0", b"LPOP", b"1"]).digest


def test_an_attempt_is_known_again_whoever_it_is_for() -> None:
    assert _attempt(b"1") == _attempt(b"2")
    assert _attempt(b"1") != _attempt(b"1", b"l")
