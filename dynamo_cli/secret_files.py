"""Files of the secret that the nodes of a cluster share: made, changed in the steps of a rotation, and given to new nodes.

A file holds one secret, or during a rotation two: a node proves the first, and accepts both (protocol/handshake.py). Only
its owner can read it, from the first byte on. It is replaced as a whole, and keeps its owner: a node that reads it
meanwhile finds the former or the new content.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path

from dynamo_cli.cluster_file import LocalCluster
from dynamo_cli.failures import Failure, unreadable
from dynamo_cli.replaced_files import replaceable
from protocol.handshake import SECRET_BYTES, BadSecret, decode_secrets, encode_secrets

FILE_NAME = "secret"  # in the directory of each node


def read(path: Path) -> tuple[bytes, ...]:
    """The secrets of a file. Raises Failure."""
    try:
        return decode_secrets(path.read_text())
    except OSError as error:
        raise Failure(f"cannot read {path}: {error.strerror}", "`dyn secret make FILE` makes a new one") from None
    except (BadSecret, UnicodeDecodeError) as error:
        raise Failure(f"{path} does not hold the secret of a cluster: {unreadable(error)}") from None


def read_all(paths: Sequence[Path]) -> tuple[bytes, ...]:
    """The secrets of files that all hold the same, before they are replaced. Raises Failure."""
    found = {path: read(replaceable(path)) for path in paths}
    first = found[paths[0]]
    for path, held in found.items():
        if held != first:
            raise Failure(
                f"{paths[0]} and {path} differ", "name only files of one cluster, all at the same step of a rotation"
            )
    return first


def new_secret() -> bytes:
    """A random secret."""
    return os.urandom(SECRET_BYTES)


def make(path: Path) -> bytes:
    """Makes a file with a new secret, and returns that. Raises Failure if there is one already."""
    if path.exists():
        raise Failure(f"{path} exists already", "for a new secret in its place: dyn secret add FILE, see its help")
    secret = new_secret()
    write(path, (secret,))
    return secret


def write(path: Path, held: Sequence[bytes]) -> None:
    """Replaces the file, or makes it. Raises Failure."""
    path = replaceable(path)
    draft = path.with_name(f"{path.name}.new")
    try:
        draft.unlink(missing_ok=True)
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            if path.exists():
                former = path.stat()
                os.fchmod(descriptor, stat.S_IMODE(former.st_mode))
                os.fchown(descriptor, former.st_uid, former.st_gid)
            file.write(encode_secrets(held))
            file.flush()
            os.fsync(descriptor)
        os.replace(draft, path)
    except OSError as error:
        raise Failure(f"cannot write {path}: {error.strerror}") from None


def provide(cluster: LocalCluster) -> None:
    """Gives a secret to each node of a local cluster that has none: the one of another node, or a new one.

    Nodes that run take it, too: a cluster of an earlier version is authenticated once all of them run this version.
    Raises Failure.
    """
    paths = [cluster.node_directory(node) / FILE_NAME for node in cluster.nodes]
    present = [path for path in paths if path.exists()]
    if len(present) == len(paths):
        return
    held = read(present[0]) if present else (new_secret(),)
    for path in paths:
        if path not in present:
            write(path, held)
