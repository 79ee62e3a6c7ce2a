"""The TLS of the connections that `dyn` makes: --tls, --cacert, --cert, --key, --insecure, or DYN_URL=rediss://HOST:PORT.

The names are redis-cli's. Without --cacert the CAs of this machine are trusted. `ssl` takes long to import, so it is only
when TLS is wanted.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from pathlib import Path

from dynamo_cli.failures import NotReached, WrongUsage


@dataclass(frozen=True, slots=True)
class Tls:
    """How a connection is encrypted, and who proves what to whom."""

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    is_insecure: bool = False  # the node's certificate is not checked

    def check(self) -> None:
        """Raises WrongUsage if the options contradict each other."""
        if (self.certificate is None) != (self.key is None):
            raise WrongUsage("--cert and --key go together", "dyn tls make --dir DIR --client NAME makes both")
        if self.ca is not None and self.is_insecure:
            raise WrongUsage("--cacert checks the node's certificate, and --insecure does not", "leave one of them out")

    def wrap(self, connection: socket.socket, host: str, shown: str) -> socket.socket:
        """The connection by TLS, after the handshake. `shown` names the node in errors. Raises NotReached, WrongUsage."""
        import ssl

        try:
            settings = ssl.create_default_context(cafile=self.ca)
            settings.minimum_version = ssl.TLSVersion.TLSv1_2
            if self.certificate is not None and self.key is not None:
                settings.load_cert_chain(self.certificate, self.key)
        except OSError as error:
            files = " ".join(str(path) for path in (self.ca, self.certificate, self.key) if path is not None)
            raise WrongUsage(
                f"cannot use {files}: {error.strerror or error}", "give PEM files that fit together"
            ) from None
        if self.is_insecure:
            settings.check_hostname = False
            settings.verify_mode = ssl.CERT_NONE
        try:
            return settings.wrap_socket(connection, server_hostname=host)
        except ssl.SSLCertVerificationError as error:
            hint = "--cacert names the CA of the cluster, such as DIR/ca.crt of dyn tls make; --insecure checks nothing"
            raise NotReached(f"the certificate of {shown} is not accepted: {error.verify_message}", hint) from None
        except ssl.SSLError as error:
            what = (error.reason or str(error)).replace("_", " ").lower()
            hint = "does that port take TLS? CONFIG GET tls_port shows which one does"
            raise NotReached(f"no TLS connection with {shown}: {what}", hint) from None
