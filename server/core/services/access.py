"""Whether a connection may be a client at all, before any command or user: protected mode, as Redis has it.

Theory. A node that nobody has given a password serves everybody who reaches its port. That is right on the machine of a
developer and wrong on a network. So while the default user has no password, only clients from this machine are served;
others are told what to do, and are closed. Other nodes are no clients: an introduction has checks of its own
(shell/introductions.py). A client whose certificate was signed by the operator's CA has proved who it is, and is served.

| protected mode | password | the client | served |
|---|---|---|---|
| off | any | any | yes |
| on | set | any | yes, and asked for the password |
| on | none | from loopback, or with a verified certificate | yes |
| on | none | any other | no: DENIED |
"""

from __future__ import annotations

from collections.abc import Callable

DENIED = (
    "DENIED this node is in protected mode: no password is set for the default user, so it serves only clients of its own "
    "machine (loopback). To serve others, do one of these: 1) set a password for the default user; 2) give the node "
    "certificates (tls_ca_file, tls_cert_file, tls_key_file) and the client one that the same CA has signed; 3) if nobody "
    "else can reach this address, switch protected mode off: CONFIG SET protected-mode no from the node's own machine, "
    "which holds until the node restarts, or the setting protected_mode = false, which lasts"
)


class ClientAccess:
    """Whom this node takes for a client. `has_password` tells whether the default user cannot be used without one."""

    def __init__(self, protected_mode: bool, has_password: Callable[[], bool]) -> None:
        self.protected_mode = protected_mode
        self.has_password = has_password

    def is_protected(self) -> bool:
        """Whether only clients of this machine, and those with a certificate, are served."""
        return self.protected_mode and not self.has_password()

    def denial(self, is_local: bool, is_verified: bool) -> str:
        """Why a client is not served; empty if it is. `is_verified`: its certificate was checked."""
        return DENIED if not is_local and not is_verified and self.is_protected() else ""
