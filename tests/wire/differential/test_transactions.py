"""Random commands in MULTI/EXEC, behind WATCH, and in scripts: redis-server and three nodes of ours give the same replies.

The keys are kept from one transaction to the next, so that commands meet types of others, keys that exist and keys that do
not. Left out are commands that Redis 7.0 does not have, and those whose replies depend on chance or on encodings. Replies
in the order of a hash table are compared without it.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Final

import pytest
import redis

from tests.core.commands.transactions.test_random_transactions import OF_ALL, OF_TYPE
from tests.wire.cluster import WireCluster
from tests.wire.differential.servers import Asker, Command, redis_server, redis_version

pytestmark = pytest.mark.skipif(redis_version() != "7.0", reason="redis-server 7.0 is not installed")
ROUNDS = 60
KEYS: Final = ("{t}a", "{t}b", "{t}c")
_LEFT_OUT: Final = (
    "HEXPIRE", "HPEXPIRE", "HEXPIREAT", "HPERSIST", "HGETEX", "HSETEX", "HGETDEL", "HTTL",  # of Redis 7.4 and 8
    "SETRANGE {} 99999999",  # a longer value than a node takes by its defaults
    "SPOP", "XADD {} *", "XADD {} MAXLEN 2 *",  # chance, the clock
    "RESTORE", "DUMP", "OBJECT", "SORT", "PF",  # encodings; SORT of a set that is not to be sorted; PFCOUNT changes nothing
)  # fmt: skip
_TABLE_ORDER: Final = ("SMEMBERS", "HGETALL", "SINTER")
COMMANDS: Final = [
    text
    for changes, reads in (*OF_TYPE, OF_ALL)
    for text in (*changes, *reads)
    if not text.startswith(_LEFT_OUT) and text != "EXPIRE {} x"
]
SCRIPT: Final = b"""local replies = {}
for place, line in ipairs(ARGV) do
  local words = {}
  for word in string.gmatch(line, '%S+') do words[#words + 1] = word end
  replies[place] = redis.pcall(unpack(words))
end
return replies"""


def _words(chance: random.Random) -> Command:
    text = chance.choice(COMMANDS).replace("{k}", chance.choice(KEYS)).replace("{}", chance.choice(KEYS), 1)
    while "{}" in text:
        text = text.replace("{}", str(chance.randrange(3)), 1)
    return tuple(text.encode().split())


def _sequences(chance: random.Random) -> Iterator[list[Command]]:
    """Transactions, some of a key that was watched and perhaps written since, and scripts."""
    for _ in range(ROUNDS):
        commands = [_words(chance) for _ in range(chance.randrange(1, 6))]
        if chance.randrange(3) == 0:
            lines = [b" ".join(command) for command in commands]
            yield [(b"EVAL", SCRIPT, b"%d" % len(KEYS), *[key.encode() for key in KEYS], *lines)]
            continue
        watched = chance.choice(KEYS).encode()
        before: list[list[Command]] = [[], [(b"WATCH", watched)], [(b"WATCH", watched), (b"SET", watched, b"1")]]
        yield [*chance.choice(before), (b"MULTI",), *commands, (b"EXEC",)]


def _comparable(sequence: list[Command], reply: bytes) -> bytes | list[bytes]:
    text = b" ".join([word for command in sequence for word in command]).decode()
    return sorted(reply.split(b"\r\n")) if any(name in text for name in _TABLE_ORDER) else reply


@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize("seed", range(2))
def test_transactions_and_scripts_are_answered_as_redis_answers_them(
    cluster: WireCluster, tmp_path_factory: pytest.TempPathFactory, seed: int, protocol: int
) -> None:
    ours_port = cluster.ports[seed % len(cluster.ports)]
    redis.Redis(port=ours_port).execute_command("FLUSHALL", "CONFIRM")
    with redis_server(tmp_path_factory.mktemp("redis")) as port:
        theirs, ours = Asker(port, protocol), Asker(ours_port, protocol)
        for sequence in _sequences(random.Random(seed)):
            replies = [
                (_comparable(sequence, theirs.ask(one)), _comparable(sequence, ours.ask(one))) for one in sequence
            ]
            assert all(their == our for their, our in replies), (sequence, replies)
        theirs.close()
        ours.close()
    redis.Redis(port=ours_port).execute_command("FLUSHALL", "CONFIRM")
