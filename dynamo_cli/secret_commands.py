"""`dyn secret make | add | use | drop`: the secret by which the nodes of a cluster know each other, and its rotation.

Other commands do not wait for the imports of secret_files (cryptography), so each function imports it itself.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dynamo_cli.failures import Failure
from dynamo_cli.options import JSON
from dynamo_cli.output import write_json, write_line

SecretFile = Annotated[
    Path, typer.Argument(metavar="FILE", dir_okay=False, help="The file to make.", show_default=False)
]
SecretFiles = Annotated[
    list[Path],
    typer.Argument(metavar="FILE...", dir_okay=False, help="Files that hold the same.", show_default=False),
]


def secret_make(file: SecretFile, as_document: JSON = False) -> None:
    """Make a secret for a new cluster.

    The nodes of a cluster prove this secret to each other before they exchange anything else. Copy the file to each
    machine, for example by scp, and start each node with dyn node start --secret-file FILE, or put it into the directory of
    the node as DIR/secret before the first start. Only its owner may read it (mode 600). dyn up does all this by itself.

    The line that is printed has the fingerprint of the secret: it tells secrets apart, and helps nobody to guess one. The
    logs of the nodes and dyn cluster status --json show the same fingerprints.
    """
    from dynamo_cli import secret_files

    _show([file], (secret_files.make(file),), as_document)


def secret_add(files: SecretFiles, as_document: JSON = False) -> None:
    """Begin a rotation: add a new secret, which nodes accept from now on.

    A rotation replaces the secret of a cluster while it serves, in three steps: dyn secret add, use, drop. Each step
    changes the file; it has to reach all nodes before the next step. If the nodes are on several machines, run each step on
    one of them and copy the file to the others. If the files are all on this machine, name all of them.

    A node notices by itself, within a second or two, that its file has changed, and at once on SIGHUP. The rows of dyn
    cluster status --json have the fingerprints of the secrets that each node holds ("secrets"), the one that it proves
    first.
    """
    from dynamo_cli import secret_files

    held = secret_files.read_all(files)
    if len(held) > 1:
        raise Failure("there are two secrets already: a rotation is under way", "next: dyn secret use, dyn secret drop")
    _write(files, (held[0], secret_files.new_secret()), as_document)


def secret_use(files: SecretFiles, as_document: JSON = False) -> None:
    """Go on with a rotation: prove the new secret, and still accept the old one.

    Only after all nodes have the file that dyn secret add wrote. The same command once more takes the step back.
    """
    from dynamo_cli import secret_files

    held = secret_files.read_all(files)
    if len(held) < 2:
        raise Failure("there is only one secret", "first: dyn secret add FILE...")
    _write(files, (held[1], held[0]), as_document)


def secret_drop(files: SecretFiles, as_document: JSON = False) -> None:
    """End a rotation: the old secret is not accepted any more.

    Only after all nodes have the file that dyn secret use wrote. Nodes make their connections anew that began with the old
    secret.
    """
    from dynamo_cli import secret_files

    held = secret_files.read_all(files)
    if len(held) < 2:
        raise Failure("there is only one secret", "first: dyn secret add FILE..., then dyn secret use FILE...")
    _write(files, held[:1], as_document)


def _write(files: list[Path], held: tuple[bytes, ...], as_document: bool) -> None:
    from dynamo_cli import secret_files

    for file in files:
        secret_files.write(file, held)
    _show(files, held, as_document)


def _show(files: list[Path], held: tuple[bytes, ...], as_document: bool) -> None:
    from protocol.handshake import fingerprint

    names = [fingerprint(secret) for secret in held]
    if as_document:
        write_json({"files": [str(file) for file in files], "secrets": names})
        return
    accepts = f", accepts {names[1]}, too" if len(names) > 1 else ""
    for file in files:
        write_line(f"{file}: proves {names[0]}{accepts}")
