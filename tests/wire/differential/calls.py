"""A random call of a command, made from its usage line.

Theory. The tree that COMMAND DOCS answers is a grammar: what is optional may be left out, options may stand in any order,
and twice, what may be repeated is, and the words come from words.py. Most calls are as the usage line says. Some are bent
afterwards: a word is missing, doubled, or another one, so that errors are met too.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from server.core.commands.command_arguments import Argument
from server.core.commands.command_docs import arguments_of
from server.core.commands.spec import CommandSpec
from tests.wire.differential.words import BINARY, NUMBERS, word_for

Command = tuple[bytes, ...]
ODDNESS = 0.04  # of a word
BENT = 0.08  # of a call
OPTIONAL = 0.35
MANY, MANY_COUNTS = 0.01, (130, 520)  # where a collection changes its encoding


class _Numkeys:
    """The place of the number of the keys that follow."""


class Calls:
    """Makes calls. `key_for` chooses a key for a command."""

    def __init__(self, rng: random.Random, key_for: Callable[[CommandSpec], bytes]) -> None:
        self._rng = rng
        self._key_for = key_for

    def call(self, spec: CommandSpec) -> Command:
        """One call of a command."""
        rng = self._rng
        name: list[bytes | _Numkeys] = [
            rng.choice((word, word, word.upper())) for word in spec.name.encode().split(b"|")
        ]
        words = self._count_keys(name + self._sequence(spec, self._in_any_order(arguments_of(spec))))
        while rng.random() < BENT:
            self._bend(words, len(name))
        return tuple(words)

    def _in_any_order(self, arguments: tuple[Argument, ...]) -> list[Argument]:
        """The arguments, with each run of optional ones shuffled, and now and then one of them twice."""
        ordered: list[Argument] = []
        run: list[Argument] = []
        for each in (*arguments, None):
            if each is not None and each.optional:
                run.append(each)
                continue
            if run and self._rng.random() < 0.1:
                run.append(self._rng.choice(run))
            self._rng.shuffle(run)
            ordered += run
            run = []
            if each is not None:
                ordered.append(each)
        return ordered

    def _sequence(self, spec: CommandSpec, arguments: list[Argument]) -> list[bytes | _Numkeys]:
        words: list[bytes | _Numkeys] = []
        for each in arguments:
            if not each.optional or self._rng.random() < OPTIONAL:
                words += self._argument(spec, each)
        return words

    def _argument(self, spec: CommandSpec, argument: Argument) -> list[bytes | _Numkeys]:
        rng = self._rng
        count = 1
        if argument.multiple:
            count = rng.choice(MANY_COUNTS) if rng.random() < MANY else rng.choice((1, 1, 2, 2, 3, 5))
        words: list[bytes | _Numkeys] = []
        for place in range(count):
            if argument.token and (not place or argument.multiple_token):
                words.append(rng.choice((argument.token.upper(), argument.token.lower())).encode())
            if argument.type == "oneof":
                words += self._argument(spec, rng.choice(argument.parts))
            elif argument.type == "block":
                words += self._sequence(spec, self._in_any_order(argument.parts))
            elif argument.type != "pure-token":
                words.append(self._word(spec, argument, count))
        return words

    def _word(self, spec: CommandSpec, argument: Argument, count: int) -> bytes | _Numkeys:
        if argument.type == "key":
            return self._key_for(spec)
        if argument.name == "numkeys" and self._rng.random() > ODDNESS:
            return _Numkeys()
        if count in MANY_COUNTS and argument.type == "string":
            return b"m%d" % self._rng.randrange(1000)
        return word_for(self._rng, spec.name, argument.name, argument.type, ODDNESS)

    def _count_keys(self, words: list[bytes | _Numkeys]) -> list[bytes]:
        """The words, with the number of keys where it belongs: mostly that of all words up to the next option."""
        counted = []
        for place, word in enumerate(words):
            if isinstance(word, _Numkeys):
                rest = words[place + 1 :]
                keys = next((count for count, each in enumerate(rest) if each in _BEHIND_KEYS), len(rest))
                word = b"%d" % (keys if self._rng.random() < 0.95 else self._rng.randrange(4))
            counted.append(word)
        return counted

    def _bend(self, words: list[bytes], fixed: int) -> None:
        """Makes a call wrong, or at least odd."""
        rng = self._rng
        if len(words) == fixed:
            words.append(rng.choice(BINARY))
            return
        place = rng.randrange(fixed, len(words))
        how = rng.randrange(4)
        if how == 0:
            del words[place]
        elif how == 1:
            words.insert(place, words[place])
        elif how == 2 and not _is_harmful(words[0], rng):
            words[place] = rng.choice(BINARY + NUMBERS[:12])
        else:
            words.append(rng.choice((*BINARY, b"GET", b"COUNT", b"WITHSCORES", b"LIMIT", b"STORE")))


def _is_harmful(name: bytes, rng: random.Random) -> bool:
    """Whether a number in place of another one could let a key expire soon."""
    return b"EX" in name.upper() or name.upper() in (b"SET", b"RESTORE")


_BEHIND_KEYS = tuple(
    word
    for token in ("WEIGHTS", "AGGREGATE", "WITHSCORES", "LIMIT", "MIN", "MAX", "LEFT", "RIGHT", "COUNT")
    for word in (token.encode(), token.lower().encode())
)
