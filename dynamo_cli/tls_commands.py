"""`dyn tls make` and `dyn tls revoke`: a CA, certificates of nodes and clients, and the list of those it has revoked."""

from __future__ import annotations

import re

from dynamo_cli.failures import WrongUsage
from dynamo_cli.options import JSON
from dynamo_cli.output import write_json, write_line
from dynamo_cli.tls_options import ClientNames, FilesName, MadeIn, NodeHosts, RevokedNames, ValidDays

DAYS_DEFAULT = 365
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@-]*")


def tls_make(
    directory: MadeIn,
    hosts: NodeHosts = None,
    name: FilesName = "node",
    clients: ClientNames = None,
    days: ValidDays = DAYS_DEFAULT,
    as_document: JSON = False,
) -> None:
    """Makes a CA, if DIR has none, and certificates that it signs.

    Without --client it makes the certificate of a node, NAME.crt and NAME.key, for the hosts of --host (default: localhost,
    127.0.0.1 and ::1). With --client it makes one for each client. Keys have mode 600. Made again, a certificate is
    renewed: a node reads it by itself. Keep DIR/ca.key away from the nodes: whoever has it can make certificates.
    """
    from dynamo_cli import certificates

    places = tuple(hosts or certificates.LOCAL_HOSTS)
    wanted: list[tuple[str, tuple[str, ...]]] = [(client, ()) for client in clients or ()] or [(name, places)]
    if clients and hosts:
        raise WrongUsage("--host is for nodes, and --client for clients", "make them with two commands")
    for each, _ in wanted:
        if not _NAME.fullmatch(each) or each == certificates.CA:
            raise WrongUsage(f"'{each}' cannot be the name of a certificate", "use letters, digits, and _ . @ -")
    made = [certificates.make(directory, each, named, days) for each, named in wanted]
    authority = directory / f"{certificates.CA}.crt"
    if as_document:
        write_json({"ca": str(authority), "certificates": [{"cert": str(crt), "key": str(key)} for crt, key in made]})
        return
    for crt, key in made:
        write_line(f"{crt} and {key}, signed by {authority}, valid for {days} days")


def tls_revoke(
    directory: MadeIn, names: RevokedNames = None, days: ValidDays = DAYS_DEFAULT, as_document: JSON = False
) -> None:
    """Adds certificates of DIR to the list of those that its CA has revoked, DIR/ca.crl.

    NAME is the name of a file NAME.crt. Nodes whose setting tls_crl_file names a copy of the list refuse these
    certificates, as soon as the copy is replaced; connections that are open stay open. Without NAME the list is only made
    anew. A list that is out of date (--days) makes nodes refuse all certificates.
    """
    from dynamo_cli import certificates

    path = certificates.revoke(directory, names or (), days)
    if as_document:
        write_json({"crl": str(path), "revoked": list(names or ()), "days": days})
    else:
        write_line(f"{path} is valid for {days} days: copy it to the nodes (setting tls_crl_file)")
