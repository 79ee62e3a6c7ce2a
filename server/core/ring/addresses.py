"""What may stand for a member's address: "host:port" that others connect to, and the mark of one that nobody knows.

Theory. An address in a layout is where other nodes and clients connect to, so it is never one that a process merely
listens at (0.0.0.0, [::]). When a member takes an address that the layout gives to another one, as pods do, the other
one is not there any more, and where it is nobody knows until it says so itself. A layout names each address once and has
one for each member, in the versions before this one, too; so that member gets a name that never resolves (RFC 6761).
"""

from __future__ import annotations

from xxhash import xxh3_64_hexdigest

_WILDCARDS = ("0.0.0.0", "::", "")
_UNKNOWN = ".unknown.invalid:1"


def is_wildcard(address: str) -> bool:
    """Whether a process can listen at this address, and nobody can connect to it."""
    return address.rpartition(":")[0].removeprefix("[").removesuffix("]") in _WILDCARDS


def unknown_address(member_id: str) -> str:
    """What stands for the address of a member that nobody knows."""
    return f"{xxh3_64_hexdigest(member_id.encode())}{_UNKNOWN}"


def is_unknown(address: str) -> bool:
    """Whether this is what `unknown_address` made."""
    return address.endswith(_UNKNOWN)


def shown_address(address: str) -> str:
    """The address as operators see it."""
    return "address unknown" if is_unknown(address) else address
