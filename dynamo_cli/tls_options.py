"""The options about TLS: of connections to nodes, of nodes, and of `dyn tls make`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dynamo_cli.addresses import PORT_MAX

# --- connections

Encrypted = Annotated[bool, typer.Option("--tls", help="Connect by TLS, as with DYN_URL=rediss://HOST:PORT.")]
CaFile = Annotated[
    Path | None,
    typer.Option("--cacert", metavar="FILE", help="The CA that signs nodes' certificates (PEM).", show_default=False),
]
CertificateFile = Annotated[
    Path | None, typer.Option("--cert", metavar="FILE", help="The certificate to show (PEM).", show_default=False)
]
KeyFile = Annotated[Path | None, typer.Option("--key", metavar="FILE", help="Its key (PEM).", show_default=False)]
Insecure = Annotated[bool, typer.Option("--insecure", help="Do not check the node's certificate.")]

# --- nodes

TlsPort = Annotated[
    int | None,
    typer.Option(
        "--tls-port",
        metavar="PORT",
        min=1,
        max=PORT_MAX,
        help="Where to take TLS; the port of --listen for TLS only.",
        show_default=False,
    ),
]
TlsCaFile = Annotated[
    Path | None,
    typer.Option("--tls-ca-file", metavar="FILE", help="The CA of clients and other nodes.", show_default=False),
]
TlsCertFile = Annotated[
    Path | None, typer.Option("--tls-cert-file", metavar="FILE", help="The node's certificate.", show_default=False)
]
TlsKeyFile = Annotated[
    Path | None, typer.Option("--tls-key-file", metavar="FILE", help="The certificate's key.", show_default=False)
]

WithTls = Annotated[
    bool, typer.Option("--tls", help="Take TLS on ports of their own, with certificates made in DIR/tls.")
]

# --- dyn tls make

MadeIn = Annotated[
    Path,
    typer.Option("--dir", metavar="DIR", file_okay=False, help="Where the files are written.", show_default=False),
]
NodeHosts = Annotated[
    list[str] | None,
    typer.Option(
        "--host", metavar="HOST", help="A host by which clients find the node; may be given again.", show_default=False
    ),
]
FilesName = Annotated[str, typer.Option("--name", metavar="NAME", help="The name of the node's files.")]
ClientNames = Annotated[
    list[str] | None,
    typer.Option("--client", metavar="NAME", help="A client's common name; may be given again.", show_default=False),
]
ValidDays = Annotated[int, typer.Option("--days", metavar="N", min=1, max=3650, help="How long it is valid.")]
RevokedNames = Annotated[
    list[str] | None, typer.Argument(metavar="NAME", help="A certificate of DIR to revoke.", show_default=False)
]
