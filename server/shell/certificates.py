"""The certificate and key of a node, and the CA that it trusts: read from files, and again when these change.

Theory. Certificates are renewed every few weeks, and a node must not stop for that. So the files are looked at once a
second, and at SIGHUP: if one of them has changed, all are read into new settings, which new connections use; those that are
open go on with what they have. Files are not replaced at one instant, so a key may not fit its certificate for a moment:
then the former settings stay, the log says so once, and the next look tries again. A CA file may hold several certificates,
so that during a change of the CA both are valid.

With `tls_crl_file` a certificate that its CA has revoked is refused, by clients' connections and links alike. The library
then refuses all certificates of a CA that has no list there, or one that is out of date: so the status warns before that.
Connections that are open stay open.

TLS 1.2 is the least version; renegotiation, which lets a client ask for signatures without end, is off. Other nodes are
checked by the CA alone and not by their host names, since addresses of members change.
"""

from __future__ import annotations

import logging
import math
import re
import ssl
import time
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from server.core.base.config import Config, ConfigError

log = logging.getLogger("dyn")
DAY_S = 86_400
WARN_DAYS = 30
URGENT_DAYS = 7  # whoever renews at all has done so by then
URGENT_SHARE = 4  # and with less than this part of its time left: some certificates are made for a day
WARN_CRL_DAYS = 3  # lists are made anew often
_CRL = re.compile(rb"-----BEGIN X509 CRL-----.*?-----END X509 CRL-----", re.DOTALL)
_VERIFY = {"no": ssl.CERT_NONE, "optional": ssl.CERT_OPTIONAL, "required": ssl.CERT_REQUIRED}


class Certificates:
    """The TLS settings of one node. Raises ConfigError if its files cannot be used at the start."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._files = [Path(name) for name in _files_of(config) if name]
        self._seen: list[tuple[int, int, int]] = []
        self._logged = ""  # the trouble with the files that was logged last
        self._server: ssl.SSLContext | None = None
        self._client: ssl.SSLContext | None = None
        self.own = b""  # our own certificate (DER)
        self.expires_s = 0.0  # wall clock, of our own certificate
        self._urgent_s = 0.0  # so long before that its renewal is urgent
        self.crl_expires_s = math.inf  # of the list of revoked certificates that is the first to be out of date
        if self._files:
            try:
                self._seen = self._stamps()
                self._load()
            except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
                raise ConfigError(f"the certificate of this node cannot be used: {self._trouble(error)}") from error

    def is_given(self) -> bool:
        """Whether the node has a certificate."""
        return self._server is not None

    def for_server(self) -> ssl.SSLContext:
        """The settings for a connection that others open."""
        assert self._server is not None
        return self._server

    def for_client(self) -> ssl.SSLContext:
        """The settings for a connection that we open to another node."""
        assert self._client is not None
        return self._client

    def ways_to_nodes(self) -> list[ssl.SSLContext | None]:
        """How to connect to another node: the ways to try, in order; None is without TLS."""
        if self._config.tls_peers == "no":
            return [None]
        return [self.for_client()] if self._config.tls_peers == "yes" else [self.for_client(), None]

    def look(self, is_asked: bool = False) -> None:
        """Reads the files again if they have changed, or if an operator asks for it (SIGHUP)."""
        if not self._files:
            return
        try:
            stamps = self._stamps()
            if stamps == self._seen and not is_asked and not self._logged:
                return
            self._load()
        except (OSError, ValueError) as error:
            trouble = self._trouble(error)
            if trouble != self._logged or is_asked:
                self._logged = trouble
                log.error("the changed certificate cannot be used, the former one stays in use: %s", trouble)
            return
        self._seen, self._logged = stamps, ""
        log.info("certificate read again: new connections use it; it expires in %d days", self.days_left())

    def days_left(self) -> int:
        """The whole days until our certificate expires; negative once it has."""
        return int(self.left_s() // DAY_S)

    def left_s(self) -> int:
        """The seconds until then."""
        return int(self.expires_s - time.time())

    def warning(self) -> str:
        """What is to be done about the certificate; empty while it is valid for more than `WARN_DAYS` and can be read."""
        if not self._files:
            return ""
        if self._logged:
            return f"the changed certificate cannot be used, the former one stays in use: {self._logged}"
        days = self.days_left()
        renew = f"renew {self._config.tls_cert_file}; the node reads it by itself"
        if days < 0:
            return f"its certificate has EXPIRED {-days} days ago, connections by TLS fail: {renew}"
        return f"its certificate expires in {days} days: {renew}" if days < WARN_DAYS else self._crl_warning()

    def is_urgent(self) -> bool:
        """Whether the warning tells of connections that are refused, or will be soon: the cluster is degraded."""
        now_s = time.time()
        crl_is_ending = self.crl_expires_s - now_s < DAY_S
        return bool(self._files) and (bool(self._logged) or self.expires_s - now_s < self._urgent_s or crl_is_ending)

    def _crl_warning(self) -> str:
        left_s = self.crl_expires_s - time.time()
        renew = f"renew {self._config.tls_crl_file}; the node reads it by itself"
        if left_s < 0:
            return f"its list of revoked certificates is OUT OF DATE, all certificates are refused: {renew}"
        days = int(left_s // DAY_S) if left_s < WARN_CRL_DAYS * DAY_S else -1
        return f"its list of revoked certificates is valid for {days} days: {renew}" if days >= 0 else ""

    def _stamps(self) -> list[tuple[int, int, int]]:
        stats = [path.stat() for path in self._files]
        return [(stat.st_mtime_ns, stat.st_size, stat.st_ino) for stat in stats]

    def _load(self) -> None:
        config = self._config
        server = self._settings(ssl.PROTOCOL_TLS_SERVER)
        verify = config.tls_client_certificates
        server.verify_mode = _VERIFY["optional" if verify == "no" and config.tls_peers != "no" else verify]
        client = None
        if config.tls_ca_file:
            client = self._settings(ssl.PROTOCOL_TLS_CLIENT)
            client.check_hostname = False
            client.verify_mode = ssl.CERT_REQUIRED
        own = x509.load_pem_x509_certificate(Path(config.tls_cert_file).read_bytes())
        self._server, self._client = server, client
        self.own = own.public_bytes(Encoding.DER)
        if Path(config.tls_key_file).stat().st_mode & 0o077:
            log.warning("the key in %s can be read by others than its owner: chmod 600", config.tls_key_file)
        self.expires_s = own.not_valid_after_utc.timestamp()
        whole_s = self.expires_s - own.not_valid_before_utc.timestamp()
        self._urgent_s = min(URGENT_DAYS * DAY_S, whole_s / URGENT_SHARE)
        self.crl_expires_s = _crl_expires_s(Path(config.tls_crl_file)) if config.tls_crl_file else math.inf

    def _settings(self, kind: ssl._SSLMethod) -> ssl.SSLContext:
        config = self._config
        settings = ssl.SSLContext(kind)
        settings.minimum_version = ssl.TLSVersion.TLSv1_2
        settings.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION | ssl.OP_CIPHER_SERVER_PREFERENCE
        settings.load_cert_chain(config.tls_cert_file, config.tls_key_file, password=_no_password)
        if config.tls_ca_file:
            settings.load_verify_locations(config.tls_ca_file)
        if config.tls_crl_file:
            settings.load_verify_locations(config.tls_crl_file)
            settings.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
        return settings

    def _trouble(self, error: Exception) -> str:
        missing = getattr(error, "filename", None)
        if missing:
            return f"{missing}: {getattr(error, 'strerror', error)}"
        names = ", ".join(map(str, self._files))
        if getattr(error, "reason", "") == "KEY_VALUES_MISMATCH":
            return f"the key in {self._config.tls_key_file} does not belong to {self._config.tls_cert_file}"
        return f"{error} (of {names})"


def _files_of(config: Config) -> tuple[str, ...]:
    return config.tls_cert_file, config.tls_key_file, config.tls_ca_file, config.tls_crl_file


def _crl_expires_s(path: Path) -> float:
    """When the first of the lists in a file is out of date. Raises ValueError if there is none."""
    lists = _CRL.findall(path.read_bytes())
    ends = [x509.load_pem_x509_crl(text).next_update_utc for text in lists]
    if not ends:
        raise ValueError(f"{path} has no list of revoked certificates")
    return min([end.timestamp() for end in ends if end is not None], default=math.inf)


def _no_password() -> str:
    """A key that is encrypted cannot be used: without this the library would ask for its password on the terminal."""
    raise ValueError("the key file is encrypted, and a node cannot ask for its password: store it in clear, mode 600")


def is_nodes(certificate: bytes | None) -> bool:
    """Whether a certificate (DER) may be a node's: one that a server may show (or with no purposes at all).

    The CA signs clients' certificates, too, and a client must not become a node by its own.
    """
    if certificate is None:
        return False
    try:
        purposes = x509.load_der_x509_certificate(certificate).extensions.get_extension_for_class(x509.ExtendedKeyUsage)
    except x509.ExtensionNotFound:
        return True
    except ValueError:
        return False
    return ExtendedKeyUsageOID.SERVER_AUTH in purposes.value


def common_name(certificate: object) -> str:
    """The common name (CN) of a certificate as `getpeercert` answers it; empty if it has none."""
    if isinstance(certificate, dict):
        for part in certificate.get("subject", ()):
            for name, value in part:
                if name == "commonName":
                    return str(value)
    return ""
