"""Addresses of members: "host:port" that others connect to, and a special name for an address that is not known.

Theory. Nodes and clients connect to the addresses in the layout. So a wildcard that a process can only listen on
(0.0.0.0, [::]) is not allowed there. If a member takes an address that the layout gives to another member (as happens
with pods), the other one is no longer there, and its new address is unknown until it announces itself. But a layout
must have one address for each member, and each address only once; versions before this one check that. So that member
gets a name that never resolves (RFC 6761).
"""

from __future__ import annotations

from functools import lru_cache
from ipaddress import ip_address

from xxhash import xxh3_64_hexdigest

_WILDCARDS = ("0.0.0.0", "::", "")
_UNKNOWN = ".unknown.invalid:1"


def is_wildcard(address: str) -> bool:
    """Whether a process can listen on this address but nobody can connect to it."""
    return address.rpartition(":")[0].removeprefix("[").removesuffix("]") in _WILDCARDS


@lru_cache(maxsize=1024)  # asked of each client that connects, and slow
def is_loopback(host: str) -> bool:
    """Whether a host, an IP address or "localhost", is the machine itself, and no other machine can connect to it."""
    bare = host.removeprefix("[").removesuffix("]").partition("%")[0]
    if bare == "localhost":
        return True
    try:
        address = ip_address(bare)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)


def unknown_address(member_id: str) -> str:
    """Returns the name that takes the place of a member's unknown address."""
    return f"{xxh3_64_hexdigest(member_id.encode())}{_UNKNOWN}"


def is_unknown(address: str) -> bool:
    """Whether an address was made by `unknown_address`."""
    return address.endswith(_UNKNOWN)


def shown_address(address: str) -> str:
    """Returns an address as operators see it."""
    return "address unknown" if is_unknown(address) else address
