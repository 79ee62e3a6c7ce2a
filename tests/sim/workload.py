"""What clients ask for: pipelines of commands on few keys, so that they meet; each value is written once only.

A key's first letter tells how it is used: `p` by plain Redis commands, `d` by DYN commands, `m` by both; `x` by both so
that it seldom lives for long: values expire, are deleted, and come again.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from tests.sim.clients import Client
from tests.sim.host import Host
from tests.sim.world import World

PATIENCE_MS = 20_000


class Customer:
    """A client that goes on asking until it is told to stop: `hosts` are the nodes it uses, `keys` what it asks about."""

    def __init__(self, world: World, name: str, hosts: list[Host], keys: list[bytes], calm: bool) -> None:
        self._world = world
        self._rng = random.Random(world.rng.getrandbits(64))
        self._hosts = hosts
        self._keys = keys
        self._calm = calm
        self._values = 0
        self._contexts: dict[bytes, bytes] = {}
        self._pause_ms_max = self._rng.choice((200, 600, 1500))
        self._stopped = False
        self._asked = 0
        self.client = Client(name, world.history, self._rest)
        self._rest()

    def stop(self) -> None:
        """No more questions; what is under way may finish."""
        self._stopped = True

    def _rest(self) -> None:
        self._asked += 1
        asked = self._asked
        self._world.events.after(self._rng.randint(1, self._pause_ms_max), lambda: self._go_on(asked))

    def _go_on(self, asked: int) -> None:
        if self._stopped or asked != self._asked:
            return
        client = self.client
        opening: list[list[bytes]] = []
        if not client.connected or self._rng.random() < 0.2:
            hosts = [host for host in self._hosts if host.node is not None]
            if not hosts:
                self._rest()
                return
            client.connect(self._rng.choice(hosts))
            if not self._calm and self._rng.random() < 0.4:
                opening = [self._quorum()]
        keys = self._keys if self._rng.random() < 0.8 else [self._rng.choice(self._keys)]
        commands = [self._command(self._rng.choice(keys)) for _ in range(self._rng.choice((1, 1, 2, 6, 12)))]
        client.send(*opening, *commands)
        self._world.events.after(PATIENCE_MS, lambda: self._give_up(asked))

    def _give_up(self, asked: int) -> None:
        if asked == self._asked:
            self.client.hang_up()
            self._rest()

    def _quorum(self) -> list[bytes]:
        replicas = self._world.layout.effective_n
        read, write = self._rng.randint(1, replicas), self._rng.randint(1, replicas)
        return [b"DYN.QUORUM", b"R", b"%d" % read, b"W", b"%d" % write]

    def _command(self, key: bytes) -> list[bytes]:
        kinds = {b"p": _PLAIN, b"d": _DYN, b"m": _PLAIN + _DYN, b"x": _SHORT_LIVED}[key[:1]]
        return self._rng.choice(kinds)(self, key)

    def _value(self, key: bytes) -> bytes:
        self._values += 1
        return b"%b=%b.%d" % (key, self.client.name.encode(), self._values)

    def _set(self, key: bytes) -> list[bytes]:
        return [b"SET", key, self._value(key)]

    def _set_if_absent(self, key: bytes) -> list[bytes]:
        return [b"SET", key, self._value(key), b"NX"]

    def _set_to_expire(self, key: bytes) -> list[bytes]:
        return [*self._set(key), *self._expiry()]

    def _dyn_set_to_expire(self, key: bytes) -> list[bytes]:
        return [*self._dyn_set(key), *self._expiry()]

    def _expiry(self) -> list[bytes]:
        return [b"PX", b"%d" % self._rng.choice((1, 100, 1000, 5000, 3_600_000))]

    def _get(self, key: bytes) -> list[bytes]:
        return [b"GET", key]

    def _delete(self, key: bytes) -> list[bytes]:
        return [b"DEL", key]

    def _dyn_get(self, key: bytes) -> list[bytes]:
        return [b"DYN.GET", key] + ([b"R", self._replicas()] if self._rng.random() < 0.3 else [])

    def _dyn_set(self, key: bytes) -> list[bytes]:
        return [b"DYN.SET", key, self._value(key), *self._options(key, 0.6)]

    def _dyn_delete(self, key: bytes) -> list[bytes]:
        return [b"DYN.DEL", key, *self._options(key, 0.9)]

    def _options(self, key: bytes, informed: float) -> list[bytes]:
        """With the last context that this client got for the key, likely; with a W of its own at times."""
        token = self._last_context(key)
        chosen = [b"CONTEXT", token] if token is not None and self._rng.random() < informed else []
        return chosen + ([b"W", self._replicas()] if self._rng.random() < 0.2 else [])

    def _replicas(self) -> bytes:
        return b"%d" % self._rng.randint(1, self._world.layout.effective_n)

    def _last_context(self, key: bytes) -> bytes | None:
        for operation in reversed(self._world.history.operations):
            mine = operation.client == self.client.name and operation.args[:2] in _with_token(key)
            if mine and type(operation.reply) is list:
                token = operation.reply[0]
                return token if isinstance(token, bytes) else None
        return None


def _with_token(key: bytes) -> list[list[bytes]]:
    return [[b"DYN.GET", key], [b"DYN.SET", key], [b"DYN.DEL", key]]


_PLAIN: list[Callable[[Customer, bytes], list[bytes]]] = [
    Customer._set, Customer._set, Customer._set, Customer._get, Customer._get, Customer._delete, Customer._set_if_absent
]  # fmt: skip
_DYN: list[Callable[[Customer, bytes], list[bytes]]] = [
    Customer._dyn_get, Customer._dyn_get, Customer._dyn_set, Customer._dyn_set, Customer._dyn_delete
]  # fmt: skip
_SHORT_LIVED: list[Callable[[Customer, bytes], list[bytes]]] = [
    Customer._set, Customer._set_to_expire, Customer._dyn_set_to_expire, Customer._set_if_absent, Customer._get,
    Customer._delete, Customer._delete, Customer._dyn_get, Customer._dyn_delete, Customer._dyn_delete,
]  # fmt: skip
