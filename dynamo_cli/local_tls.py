"""`dyn up --tls`: certificates in DIR/tls, a port for TLS beside each node's own, and links between the nodes by TLS.

All of it is settings, which DIR/cluster.json stores as those of --set. Nodes on one machine cannot share a port, so the
setting `tls_port` of a local cluster is that of its first node, and the others have the next ones.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from dynamo_cli.cluster_file import LocalCluster, LocalNode

FOLDER = "tls"
PORT_OFFSET = 100  # from the first node's port to where it takes TLS


def with_tls(cluster: LocalCluster) -> LocalCluster:
    """The cluster with TLS; settings that it has already stay. Makes missing certificates. Raises Failure."""
    home = cluster.directory / FOLDER
    if not (home / "node.crt").exists():
        from dynamo_cli import certificates

        certificates.make(home, "node", certificates.LOCAL_HOSTS, certificates.CA_DAYS)
    settings = {
        "tls_port": str(cluster.nodes[0].address.port + PORT_OFFSET),
        "tls_peers": "yes",
        "tls_ca_file": str(home / "ca.crt"),
        "tls_cert_file": str(home / "node.crt"),
        "tls_key_file": str(home / "node.key"),
    }
    return replace(cluster, settings={**settings, **cluster.settings})


def setting_of(cluster: LocalCluster, node: LocalNode, name: str, value: str) -> str:
    """What a setting of the cluster is for one node."""
    if name == "tls_port" and value.isdigit() and int(value):
        return str(int(value) + node.address.port - cluster.nodes[0].address.port)
    return value


def ca_of(cluster: LocalCluster) -> tuple[int, Path] | None:
    """The first node's port for TLS and the file of the CA, for who is to try it; None without TLS."""
    port, ca = cluster.settings.get("tls_port", ""), cluster.settings.get("tls_ca_file")
    return (int(port), Path(ca)) if port.isdigit() and ca else None
