"""The address of a node: `HOST:PORT` on command lines, `redis://HOST:PORT` in `DYN_URL`.

An IPv6 host stands in brackets, as in URLs: `[::1]:7001`.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from dynamo_cli.failures import WrongUsage
from protocol.databases import DATABASES

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 7001
PORT_MAX = 65535
_NEXT_URL = re.compile(r",(?=rediss?://)")


class Address(NamedTuple):
    """Host name or IP address, and TCP port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(text: str) -> Address:
    """Parses `127.0.0.1:7001`, `node.example:7001` or `[::1]:7001`. Raises WrongUsage that shows `text`."""
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise WrongUsage(f"'{text}' is not HOST:PORT", "put an IPv6 address in brackets: [::1]:7001")
    if not (colon and host and port.isascii() and port.isdigit() and 1 <= int(port) <= PORT_MAX):
        raise WrongUsage(f"'{text}' is not HOST:PORT", f"for example {DEFAULT_HOST}:{DEFAULT_PORT}")
    return Address(host, int(port))


def is_encrypted(url: str) -> bool:
    """Whether a URL asks for TLS."""
    return url.startswith("rediss://")


def parse_url(url: str) -> Address:
    """Parses `redis://[USER:PASSWORD@]HOST[:PORT][/DATABASE]`, or rediss:// for TLS, as Redis clients do.

    Raises WrongUsage for other forms, and does not show a user or password then. These are read by logins.py.
    """
    scheme, separator, rest = url.partition("://")
    example = f"for example DYN_URL=redis://{DEFAULT_HOST}:{DEFAULT_PORT}"
    shown = f"...@{url.rpartition('@')[2]}" if "@" in url else url
    if scheme not in ("redis", "rediss") or not separator:
        raise WrongUsage(f"DYN_URL is '{shown}', which is not a redis:// address", example)
    authority, _, database = rest.rpartition("@")[2].partition("/")
    if database and not (database.isascii() and database.isdigit() and int(database) < DATABASES):
        raise WrongUsage(f"DYN_URL is '{shown}', but databases are numbered 0 to {DATABASES - 1}", example)
    has_port = not authority.endswith("]") and ":" in authority
    try:
        return parse_address(authority if has_port else f"{authority}:{DEFAULT_PORT}")
    except WrongUsage:
        raise WrongUsage(f"DYN_URL has '{shown}', in which '{authority}' is not HOST or HOST:PORT", example) from None


def urls_in(text: str) -> list[str]:
    """The URLs of all nodes in `DYN_URL`: `redis://a:7001,b:7001` or `redis://a:7001,redis://b:7001`."""
    found = []
    for url in _NEXT_URL.split(text):
        scheme, separator, rest = url.partition("://")
        login, at, where = rest.rpartition("@")
        hosts, slash, database = where.partition("/")
        found += [f"{scheme}{separator}{login}{at}{host}{slash}{database}" for host in hosts.split(",")]
    return found


def database_in_url(url: str) -> int:
    """The database that a URL names, 0 by default. Raises WrongUsage as `parse_url`."""
    parse_url(url)
    return int(url.partition("://")[2].rpartition("@")[2].partition("/")[2] or 0)
