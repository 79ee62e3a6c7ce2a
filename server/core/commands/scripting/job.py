"""A script with its keys and arguments, and how it travels to the coordinator of its keys.

    DYN.EVAL numkeys key … sha user flags seed argument …

`key …` are the keys of the call, then those that the script has reached otherwise, all of one slot; `flags` says how many
of the former there are, the space, the spaces of all databases, whether it only reads, and which function of the library
`sha` is called (`2.0r`, `2.0:myfunction`, `2.1.1023456789abcdef`). No spaces stand for those before the first swap: so
earlier versions, which know no swaps, see no others. The coordinator asks for the text if it does not know it; the sender
does.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from protocol.databases import UNSWAPPED, client_key, spaces_in, spaces_word
from server.core.base.errors import CommandError
from server.core.services.scripts import SHA_BYTES

NAME: Final = b"DYN.EVAL"
_READ_ONLY: Final = b"r"
_FUNCTION: Final = b":"
MALFORMED: Final = "ERR malformed script"
_HEADER: Final = 4  # sha, user, flags, seed


class Job(NamedTuple):
    """A call of a script, or of a `function` of a library. `reached` are keys that it uses and that its call does not show.
    All keys are inner ones (protocol/databases.py), `space` is that of the client, and `spaces` those of all
    databases, by number, when the call began."""

    sha: bytes
    user: bytes
    read_only: bool
    seed: int
    keys: list[bytes]
    args: list[bytes]
    reached: list[bytes]
    space: int
    spaces: tuple[int, ...] = UNSWAPPED.spaces
    function: bytes = b""

    def all_keys(self) -> list[bytes]:
        """All keys that are known to be used, each once."""
        return list(dict.fromkeys([*self.keys, *self.reached]))

    def call(self) -> list[bytes]:
        """The call as its client might have sent it, as far as it is known."""
        name = [b"fcall", self.function] if self.function else [b"evalsha", self.sha]
        return [*name, b"%d" % len(self.keys), *map(client_key, self.keys), *self.args]

    def encode(self) -> list[bytes]:
        """The job as a call of DYN.EVAL."""
        keys = [*self.keys, *self.reached]
        spaces = b"" if self.spaces == UNSWAPPED.spaces else b"." + spaces_word(self.spaces)
        flags = b"%d.%d%b%b" % (len(self.keys), self.space, spaces, _READ_ONLY if self.read_only else b"")
        if self.function:
            flags += _FUNCTION + self.function
        return [NAME, b"%d" % len(keys), *keys, self.sha, self.user, flags, b"%d" % self.seed, *self.args]


def decode(call: list[bytes]) -> Job:
    """Reads a call of DYN.EVAL. Raises CommandError if it is malformed."""
    count = _count(call[1])
    place = 2 + count
    if place + _HEADER > len(call):
        raise CommandError(MALFORMED)
    sha, user, flags, seed = call[place : place + _HEADER]
    flags, _, function = flags.partition(_FUNCTION)
    keys_declared, _, space = flags.removesuffix(_READ_ONLY).partition(b".")
    space, _, word = space.partition(b".")
    spaces = UNSWAPPED.spaces if not word else spaces_in(word)
    declared = _count(keys_declared)
    if declared > count or len(sha) != SHA_BYTES or spaces is None:
        raise CommandError(MALFORMED)
    keys = call[2:place]
    read_only = flags.endswith(_READ_ONLY)
    args = call[place + _HEADER :]
    reached = keys[declared:]
    return Job(sha, user, read_only, _count(seed), keys[:declared], args, reached, _count(space), spaces, function)


def _count(word: bytes) -> int:
    if not word.isdigit() or len(word) > 10:
        raise CommandError(MALFORMED)
    return int(word)
