"""The node that a command talks to: the global options, else `DYN_URL`, else the defaults.

Any node answers for the whole cluster, so a command needs only one address. It is determined when a command first
connects, not before: a broken `DYN_URL` must not keep `dyn up` from starting a cluster.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from pathlib import Path

import typer

from dynamo_cli.addresses import DEFAULT_HOST, DEFAULT_PORT, Address, database_in_url, is_encrypted, parse_url
from dynamo_cli.client import TIMEOUT_S_DEFAULT, Client
from dynamo_cli.logins import Login, asked_login, login_of
from dynamo_cli.tls_client import Tls


@dataclass(frozen=True, slots=True)
class Target:
    """The global options; None where not given."""

    host: str | None = None
    port: int | None = None
    timeout_s: float = TIMEOUT_S_DEFAULT
    tls: Tls | None = None
    user: str | None = None
    password_file: Path | None = None
    database: int = 0
    asked: dict[str, Login | None] = field(default_factory=dict)  # what the user has typed, so that it is asked once

    def address(self) -> Address:
        """`--host` and `--port` each override their part of `DYN_URL`. Raises WrongUsage if that is malformed."""
        if self.host is not None and self.port is not None:
            return Address(self.host, self.port)
        url = os.environ.get("DYN_URL")
        base = parse_url(url) if url else Address(DEFAULT_HOST, DEFAULT_PORT)
        return Address(self.host or base.host, self.port or base.port)

    def of_database(self, database: int | None) -> Target:
        """The same node, and the keys of a database: `--db`, else that of `DYN_URL`. Raises WrongUsage."""
        url = os.environ.get("DYN_URL")
        if database is None and url and (self.host is None or self.port is None):
            database = database_in_url(url)
        return replace(self, database=database or 0)

    def connect(self) -> Client:
        """Opens a connection to the node, and logs in if a login is given. Raises NotReached, WrongUsage, Refused."""
        login = login_of(self.user, self.password_file)
        client = self.connect_to(self.address())
        if login is None and self.user is not None:
            login = self._login(client.address)
        if login is not None:
            client.log_in(login)
        return client

    def _login(self, address: Address) -> Login | None:
        """The login for a node that wants one: as given, else as the user types it."""
        given = login_of(self.user, self.password_file)
        if given is None and "" not in self.asked:
            self.asked[""] = asked_login(self.user, address)
        return given or self.asked.get("")

    def connect_to(self, address: Address) -> Client:
        """Opens a connection to another node of the cluster in the same way; logs in only if the node wants that, because
        a fresh node has no users. Raises NotReached, WrongUsage."""
        tls = self.tls
        if tls is None and is_encrypted(os.environ.get("DYN_URL", "")):
            tls = Tls()
        if tls is not None:
            tls.check()
        client = Client(address, self.timeout_s, tls, lambda: self._login(address))
        if self.database:
            client.call("SELECT", self.database)
        return client


def target_of(context: typer.Context) -> Target:
    """The target of the present command line."""
    target = context.find_root().obj
    return target if isinstance(target, Target) else Target()
