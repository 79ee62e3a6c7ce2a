"""Parses a command's usage line into the tree of arguments that COMMAND DOCS answers; redis-cli makes its hints of it.

Theory. The specs describe arguments as Redis' manual does, `key [key ...] [EX seconds|PX milliseconds]`: words in
capitals are literal, others are placeholders for values; [ ] is optional, ( ) groups, | separates alternatives, and
brackets that end in ... repeat what is before them. A word in capitals belongs to the value that follows it. That is
enough to build the tree, so the arguments are written down once, in the form that people read.

What type a value has follows from the name of its placeholder (`_TYPES`). Some names stand for different types in
different commands: then the usage line says which, as in `INCRBYFLOAT key increment:double`, and people do not see that
(`shown_usage`). Placeholders of the type `key` belong to the key specifications of the command, in their order.

Source: https://redis.io/docs/latest/develop/reference/command-arguments/
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace

from protocol import resp
from server.core.commands.shapes import named, word

_TOKENS = re.compile(r"[\[\]()|]|[^\s\[\]()|]+")
_REPEAT = "..."
_NAMES_OF_TYPES = {
    "key": "key key1 key2 source destination newkey sourcekey destkey dst src",
    "integer": "seconds milliseconds s ms n count cursor slot index protover client-id maxage config-epoch start-slot "
    "end-slot port cluster_bus_port numkeys offset start stop end weight increment decrement ttl frequency len limit rank "
    "num-matches timeout destination-db numreplicas bit numlocal",
    "double": "score radius width height longitude latitude",
    "pattern": "pattern",
    "unix-time": "unix-time unix-time-ms unix-time-seconds unix-time-milliseconds",
}
_TYPES = {name: kind for kind, names in _NAMES_OF_TYPES.items() for name in names.split()}
_TYPED = re.compile(r"(?<=[\w-]):(string|integer|double|key|pattern|unix-time)\b")


def shown_usage(usage: str) -> str:
    """The usage line as people read it, without the types."""
    return _TYPED.sub("", usage)


@dataclass(frozen=True)
class Argument:
    """One node of the tree. `type`: string, integer, double, unix-time, key, pattern, pure-token; or oneof and block, with
    `parts`. `key_spec` is the number of the key specification that a key belongs to."""

    name: str
    type: str
    token: str = ""
    optional: bool = False
    multiple: bool = False
    parts: tuple[Argument, ...] = ()
    key_spec: int = -1
    multiple_token: bool = False


def parse_usage(usage: str, key_specs: Sequence[int] = (0,), pattern_spec: int = -1) -> tuple[Argument, ...]:
    """The arguments that a usage line describes. Raises ValueError if brackets do not match.

    `key_specs` are the numbers of the key specifications that keys belong to, in their order: keys left over belong to
    the last one, and without any a key is a plain string. `pattern_spec` is the one that patterns belong to, if any.
    """
    tokens = _TOKENS.findall(usage)
    arguments = _sequence(tokens)
    if tokens:
        raise ValueError(f"{usage!r} has a {tokens[0]!r} too much")
    return _assign_keys(arguments, deque(key_specs), pattern_spec)


def _assign_keys(arguments: tuple[Argument, ...], key_specs: deque[int], pattern_spec: int) -> tuple[Argument, ...]:
    """Assigns keys and patterns to key specifications. Consumes all but the last of `key_specs`."""
    assigned = []
    for each in arguments:
        if each.type == "pattern":
            each = replace(each, key_spec=pattern_spec)
        elif each.type == "key" and not key_specs:
            each = replace(each, type="string")
        elif each.type == "key":
            each = replace(each, key_spec=key_specs[0] if len(key_specs) == 1 else key_specs.popleft())
        assigned.append(replace(each, parts=_assign_keys(each.parts, key_specs, pattern_spec)))
    return tuple(assigned)


def _value(token: str, literal: str = "") -> Argument:
    """The argument of a placeholder, `name` or `name:type`."""
    typed = _TYPED.search(token)
    name = shown_usage(token)
    return Argument(name, typed[1] if typed else _TYPES.get(name, "string"), literal)


def _sequence(tokens: list[str]) -> tuple[Argument, ...]:
    """Consumes arguments from the front of `tokens`, up to an alternative or a closing bracket."""
    found: list[Argument] = []
    while tokens and tokens[0] not in ("|", "]", ")"):
        token = tokens.pop(0)
        if token == "[":
            inner = _alternatives(tokens, "]")
            if inner.parts and inner.parts[-1].name == _REPEAT:
                _repeat(found, inner.parts[:-1], bool(inner.token or inner.parts[0].token))
            else:
                found.append(replace(inner, optional=True))
        elif token == "(":
            found.append(_alternatives(tokens, ")"))
        elif token.isupper():
            found.append(_after(token, tokens))
        else:
            found.append(_value(token))
    return tuple(found)


def _repeat(found: list[Argument], repeated: tuple[Argument, ...], multiple_token: bool) -> None:
    """Marks the last of the arguments found as repeatable; several become one block."""
    last = found[-len(repeated) :]
    if [argument.name for argument in last] != [argument.name for argument in repeated]:
        raise ValueError(f"brackets that end in {_REPEAT} repeat what stands before them")
    found[-len(repeated) :] = [replace(_one(tuple(last)), multiple=True, multiple_token=multiple_token)]


def _after(token: str, tokens: list[str]) -> Argument:
    """The argument that begins with a word in capitals, or consists of it."""
    if tokens and tokens[0] == "(":
        tokens.pop(0)
        return replace(_alternatives(tokens, ")"), token=token)
    if tokens and tokens[0] not in ("|", "]", ")", "[") and not tokens[0].isupper():
        return _value(tokens.pop(0), token)
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
    """A sequence as one argument. If it is a token and several plain values, the token is that of all of them."""
    if not sequence:
        raise ValueError("nothing stands between two brackets")
    if len(sequence) == 1:
        return sequence[0]
    name, token = "-".join(each.name for each in sequence), sequence[0].token
    are_plain = not any(each.parts or each.optional or each.multiple for each in sequence)
    if token and are_plain and sequence[0].type != "pure-token" and not any(each.token for each in sequence[1:]):
        return Argument(name, "block", token, parts=(replace(sequence[0], token=""), *sequence[1:]))
    return Argument(name, "block", parts=sequence)


def encode_arguments(arguments: tuple[Argument, ...], resp3: bool) -> bytes:
    """The value of `arguments` in COMMAND DOCS."""
    return resp.array([_encode(argument, resp3) for argument in arguments])


def _encode(argument: Argument, resp3: bool) -> bytes:
    fields = {"name": word(argument.name), "type": word(argument.type)}
    if argument.key_spec >= 0:
        fields["key_spec_index"] = resp.integer(argument.key_spec)
    if argument.token:
        fields["token"] = word(argument.token)
    flags = [name for name in ("optional", "multiple", "multiple_token") if getattr(argument, name)]
    if flags:
        fields["flags"] = resp.set_([resp.simple(flag) for flag in flags], resp3)
    if argument.parts:
        fields["arguments"] = encode_arguments(argument.parts, resp3)
    return named(fields, resp3)
