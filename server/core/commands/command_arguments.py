"""Parses a command's usage line into the tree of arguments that COMMAND DOCS answers; redis-cli makes its hints of it.

Theory. The specs describe arguments as Redis' manual does, `key [key ...] [EX seconds|PX milliseconds]`: words in
capitals are literal, others are placeholders for values; [ ] is optional, ( ) groups, | separates alternatives, and
brackets that end in ... repeat what is before them. A word in capitals belongs to the value that follows it. That is
enough to build the tree, so the arguments are written down once, in the form that people read.

Source: https://redis.io/docs/latest/develop/reference/command-arguments/
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from protocol import resp
from server.core.commands.shapes import named, word

_TOKENS = re.compile(r"[\[\]()|]|[^\s\[\]()|]+")
_REPEAT = "..."
_INTEGERS = (
    "seconds",
    "milliseconds",
    "s",
    "ms",
    "n",
    "count",
    "cursor",
    "slot",
    "index",
    "protover",
    "client-id",
    "maxage",
    "config-epoch",
    "start-slot",
    "end-slot",
    "port",
    "cluster_bus_port",
)
_TYPES = {"key": "key", "pattern": "pattern", "unix-time": "unix-time", "unix-time-ms": "unix-time"}
_TYPES |= dict.fromkeys(_INTEGERS, "integer")


@dataclass(frozen=True)
class Argument:
    """One node of the tree. `type`: string, integer, key, pattern, pure-token; or oneof and block, with `parts`."""

    name: str
    type: str
    token: str = ""
    optional: bool = False
    multiple: bool = False
    parts: tuple[Argument, ...] = ()


def parse_usage(usage: str, has_keys: bool = True) -> tuple[Argument, ...]:
    """The arguments that a usage line describes. `key` is a plain name if the command has no keys. Raises ValueError if
    brackets do not match."""
    tokens = _TOKENS.findall(usage)
    arguments = _sequence(tokens)
    if not has_keys:
        arguments = tuple([replace(each, type="string") if each.type == "key" else each for each in arguments])
    if tokens:
        raise ValueError(f"{usage!r} has a {tokens[0]!r} too much")
    return arguments


def _sequence(tokens: list[str]) -> tuple[Argument, ...]:
    """Consumes arguments from the front of `tokens`, up to an alternative or a closing bracket."""
    found: list[Argument] = []
    while tokens and tokens[0] not in ("|", "]", ")"):
        token = tokens.pop(0)
        if token == "[":
            inner = _alternatives(tokens, "]")
            if inner.parts and inner.parts[-1].name == _REPEAT:
                _repeat(found, inner.parts[:-1])
            else:
                found.append(replace(inner, optional=True))
        elif token == "(":
            found.append(_alternatives(tokens, ")"))
        elif token.isupper():
            found.append(_after(token, tokens))
        else:
            found.append(Argument(token, _TYPES.get(token, "string")))
    return tuple(found)


def _repeat(found: list[Argument], repeated: tuple[Argument, ...]) -> None:
    """Marks the last of the arguments found as repeatable; several become one block."""
    last = found[-len(repeated) :]
    if [argument.name for argument in last] != [argument.name for argument in repeated]:
        raise ValueError(f"brackets that end in {_REPEAT} repeat what stands before them")
    found[-len(repeated) :] = [replace(_one(tuple(last)), multiple=True)]


def _after(token: str, tokens: list[str]) -> Argument:
    """The argument that begins with a word in capitals, or consists of it."""
    if tokens and tokens[0] == "(":
        tokens.pop(0)
        return replace(_alternatives(tokens, ")"), token=token)
    if tokens and tokens[0] not in ("|", "]", ")", "[") and not tokens[0].isupper():
        name = tokens.pop(0)
        return Argument(name, _TYPES.get(name, "string"), token)
    return Argument(token.lower(), "pure-token", token)


def _alternatives(tokens: list[str], end: str) -> Argument:
    """The content of brackets as one argument; consumes the closing bracket."""
    choices = [_one(_sequence(tokens))]
    while tokens and tokens[0] == "|":
        tokens.pop(0)
        choices.append(_one(_sequence(tokens)))
    if not tokens or tokens.pop(0) != end:
        raise ValueError(f"a bracket is not closed by {end!r}")
    return (
        choices[0] if len(choices) == 1 else Argument("|".join(c.name for c in choices), "oneof", parts=tuple(choices))
    )


def _one(sequence: tuple[Argument, ...]) -> Argument:
    if not sequence:
        raise ValueError("nothing stands between two brackets")
    return sequence[0] if len(sequence) == 1 else Argument("-".join(a.name for a in sequence), "block", parts=sequence)


def encode_arguments(arguments: tuple[Argument, ...], resp3: bool) -> bytes:
    """The value of `arguments` in COMMAND DOCS."""
    return resp.array([_encode(argument, resp3) for argument in arguments])


def _encode(argument: Argument, resp3: bool) -> bytes:
    fields = {"name": word(argument.name), "type": word(argument.type)}
    if argument.type == "key":
        fields["key_spec_index"] = resp.integer(0)
    if argument.token:
        fields["token"] = word(argument.token)
    flags = [name for name in ("optional", "multiple") if getattr(argument, name)]
    if flags:
        fields["flags"] = resp.set_([resp.simple(flag) for flag in flags], resp3)
    if argument.parts:
        fields["arguments"] = encode_arguments(argument.parts, resp3)
    return named(fields, resp3)
