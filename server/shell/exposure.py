"""What an operator should know of a node that other machines can reach: no password, no TLS, no secret. Logged at
the start and when it changes; `dyn cluster status` shows it.

| listens on | protected mode | password | TLS | secret | the warning |
|---|---|---|---|---|---|
| loopback | any | any | any | any | none |
| else | off | none | any | any | whoever reaches the address may read, change and delete everything |
| else | on | none | no | no | clients of other machines are refused, and links between nodes can be read on the network |
| else | on | none | no | yes | clients of other machines are refused (links between nodes are encrypted by the secret) |
| else | any | set | no | any | passwords and values can be read on the network |
| else | any | set | yes | any | none |
| else | on | none | yes | any | none: clients prove by a certificate who they are |
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from server.core.ring.addresses import is_loopback
from server.core.services.services import Services
from server.shell.certificates import Certificates

log = logging.getLogger("dyn")
OPEN_TO_ALL = (
    "whoever can reach it may read, change and delete everything: no password is set and protected mode is off; set a "
    "password for the default user, or protected_mode = true"
)
NO_PASSWORD = (
    "no password is set, so protected mode refuses clients of other machines: requirepass in the file of --config"
)
NO_SECRET = (
    f"{NO_PASSWORD}; and what nodes send each other can be read on the network: there is neither TLS nor a secret"
)
NO_TLS = "passwords and values can be read on the network: it takes connections without TLS"


def exposure(is_public: bool, is_protected: bool, has_password: bool, has_tls: bool, has_secret: bool) -> str:
    """The warning for a node; empty if there is none."""
    if not is_public:
        return ""
    if not has_password and not is_protected:
        return OPEN_TO_ALL
    if has_tls:
        return ""
    if has_password:
        return NO_TLS
    return NO_PASSWORD if has_secret else NO_SECRET


class Exposure:
    """Watches the warning of one node."""

    def __init__(self, services: Services, has_tls: Callable[[], bool], certificates: Certificates) -> None:
        """`has_tls`: whether all connections of other machines are encrypted."""
        self._services = services
        self._has_tls = has_tls
        self._certificates = certificates
        self._logged = ""
        self._listen = ""
        self._is_public = False

    def begin(self, host: str, port: int) -> None:
        """The node listens here."""
        self._listen = f"{host}:{port}"
        self._is_public = not is_loopback(host)
        self._look()

    def notices(self) -> list[str]:
        """What the status tells an operator of this node's address and certificate. Called once a second."""
        self._certificates.look()
        return [text for text in (self._look(), self._certificates.warning()) if text]

    def urgent(self) -> list[str]:
        """Those of the notices because of which the cluster is degraded."""
        return [self._certificates.warning()] if self._certificates.is_urgent() else []

    def times(self) -> dict[str, str]:
        """How long the certificate is still valid; negative once it is not."""
        certificates = self._certificates
        return {"certificate_left_s": str(certificates.left_s())} if certificates.is_given() else {}

    def facts(self) -> dict[str, object]:
        """The same for `dyn doctor`."""
        certificates = self._certificates
        expires = {"certificate_days": certificates.days_left()} if certificates.is_given() else {}
        return {"is_public": self._is_public, "has_tls": self._has_tls(), **expires}

    def _look(self) -> str:
        """Returns the present warning, and logs it if it is new."""
        access = self._services.access
        has_secret = bool(self._services.authentication.secrets)
        found = exposure(self._is_public, access.is_protected(), access.has_password(), self._has_tls(), has_secret)
        if found != self._logged:
            self._logged = found
            if found:
                log.warning("this node listens on %s, and not for this machine alone: %s", self._listen, found)
            else:
                log.info("what other machines can do at %s is bounded now: nothing to warn of", self._listen)
        return f"it listens on {self._listen}, and not for this machine alone: {found}" if found else ""
