"""Cases whose replies must be the same bytes, in both protocols (cases.py has them)."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import zip_longest
from typing import NamedTuple

from tests.wire.differential.servers import Asker, Command

Case = tuple[Command, ...]
ATTEMPTS = 10  # a case differs if it does so each time: a clock may tick between two servers


class Difference(NamedTuple):
    """A command of a case to which the two gave different answers."""

    case: Case
    place: int
    protocol: int
    redis: bytes
    ours: bytes

    def __str__(self) -> str:
        said = " | ".join([b" ".join(command).decode("latin-1") for command in self.case[: self.place + 1]])
        return f"RESP{self.protocol} {said}\n    redis {self.redis!r}\n    ours  {self.ours!r}"


class Pair:
    """Connections to a Redis and to a node of ours, in both protocols."""

    def __init__(self, redis_port: int, our_port: int) -> None:
        self._askers = {protocol: (Asker(redis_port, protocol), Asker(our_port, protocol)) for protocol in (2, 3)}

    def differences(self, cases: Iterable[Case], is_thorough: bool = True) -> list[Difference]:
        """The first difference of each case that has one. Each case runs in both protocols, or in turn if not thorough."""
        found = []
        for number, case in enumerate(cases):
            for protocol in (2, 3) if is_thorough else (2 + number % 2,):
                difference = self._difference(case, protocol)
                if difference is not None:
                    found.append(difference)
                    break
        return found

    def _difference(self, case: Case, protocol: int) -> Difference | None:
        redis, ours = self._askers[protocol]
        difference = None
        for _ in range(ATTEMPTS):
            answers = list(zip_longest(redis.ask_all(case), ours.ask_all(case), fillvalue=b""))
            place = next((place for place, (theirs, our) in enumerate(answers) if theirs != our), None)
            if place is None:
                return None
            difference = Difference(case, place, protocol, *answers[place])
        return difference

    def close(self) -> None:
        """Ends all connections."""
        for pair in self._askers.values():
            for asker in pair:
                asker.close()
