"""The node that a command talks to: the global options, else `DYN_URL`, else the defaults.

Any node answers for the whole cluster, so a command needs only one address. It is determined when a command first
connects, not before: a broken `DYN_URL` must not keep `dyn up` from starting a cluster.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import typer

from dynamo_cli.addresses import DEFAULT_HOST, DEFAULT_PORT, Address, database_in_url, is_encrypted, parse_url, urls_in
from dynamo_cli.client import TIMEOUT_S_DEFAULT, Client
from dynamo_cli.failures import NotReached
from dynamo_cli.logins import Login, asked_login, login_of
from dynamo_cli.tls_client import Tls

PROBE_SHARE = 5  # of several nodes, one that has not answered within this part of the timeout is left out


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

    def addresses(self) -> list[Address]:
        """The nodes to ask, in order: those of `DYN_URL`, or the one of `--host` and `--port`, each of which overrides its
        part of the first one in `DYN_URL`. Raises WrongUsage if that is malformed."""
        if self.host is not None and self.port is not None:
            return [Address(self.host, self.port)]
        url = os.environ.get("DYN_URL")
        nodes = [parse_url(each) for each in urls_in(url)] if url else [Address(DEFAULT_HOST, DEFAULT_PORT)]
        if self.host is None and self.port is None:
            return nodes
        return [Address(self.host or nodes[0].host, self.port or nodes[0].port)]

    def of_database(self, database: int | None) -> Target:
        """The same node, and the keys of a database: `--db`, else that of `DYN_URL`. Raises WrongUsage."""
        url = os.environ.get("DYN_URL")
        if database is None and url and (self.host is None or self.port is None):
            database = database_in_url(urls_in(url)[0])
        return replace(self, database=database or 0)

    def connect(self) -> Client:
        """Opens a connection to the node, of several ones to the first that answers, and logs in if a login is given.
        Raises NotReached, WrongUsage, Refused."""
        login = login_of(self.user, self.password_file)
        addresses = self.addresses()
        client = self.connect_to(addresses[0]) if len(addresses) == 1 else self._first_that_answers(addresses)
        if login is None and self.user is not None:
            login = self._login(client.address)
        if login is not None:
            client.log_in(login)
        return client

    def _first_that_answers(self, addresses: Sequence[Address]) -> Client:
        quick, troubles = replace(self, timeout_s=self.timeout_s / PROBE_SHARE), []
        for address in addresses:
            try:
                client = quick.connect_to(address)
                client.probe()
            except NotReached as failure:
                troubles.append(failure.message)
            else:
                client.timeout_s = self.timeout_s
                return client
        raise NotReached(f"no node of DYN_URL answers: {'; '.join(troubles)}", "is the cluster up?")

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
