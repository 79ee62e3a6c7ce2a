"""The node that a command talks to: the global options, else `DYN_URL`, else the defaults.

Any node answers for the whole cluster, so a command needs only one address. It is determined when a command first
connects, not before: a broken `DYN_URL` must not keep `dyn up` from starting a cluster.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import typer

from dynamo_cli.addresses import DEFAULT_HOST, DEFAULT_PORT, Address, parse_url
from dynamo_cli.client import TIMEOUT_S_DEFAULT, Client


@dataclass(frozen=True, slots=True)
class Target:
    """The global options; None where not given."""

    host: str | None = None
    port: int | None = None
    timeout_s: float = TIMEOUT_S_DEFAULT

    def address(self) -> Address:
        """`--host` and `--port` each override their part of `DYN_URL`. Raises WrongUsage if that is malformed."""
        if self.host is not None and self.port is not None:
            return Address(self.host, self.port)
        url = os.environ.get("DYN_URL")
        base = parse_url(url) if url else Address(DEFAULT_HOST, DEFAULT_PORT)
        return Address(self.host or base.host, self.port or base.port)

    def connect(self) -> Client:
        """Opens a connection to the node. Raises NotReached, WrongUsage."""
        return Client(self.address(), self.timeout_s)


def target_of(context: typer.Context) -> Target:
    """The target of the present command line."""
    target = context.find_root().obj
    return target if isinstance(target, Target) else Target()
