"""`dyn key make`: adds a key to the file by which a node encrypts what it stores (server/storage/keyring.py)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from dynamo_cli.failures import Failure
from dynamo_cli.options import JSON
from dynamo_cli.output import write_json, write_line
from dynamo_cli.replaced_files import replaceable

ID_BYTES, KEY_BYTES = 4, 32
KeysFile = Annotated[
    Path, typer.Option("--file", metavar="FILE", dir_okay=False, help="The file of keys.", show_default=False)
]


def key_make(file: KeysFile, as_document: JSON = False) -> None:
    """Adds a new key to FILE, which is made with mode 600 if it is missing.

    A node whose setting encryption_key_file names FILE encrypts values with the last key of it; one that runs with FILE
    notices a new key within a second. It rewrites what it has in clear or under an older key while it serves, and its log
    says when an older key is not needed any more. Keep a copy of FILE apart from the disk: without it the node's data is
    lost.
    """
    key_id = os.urandom(ID_BYTES).hex()
    file = replaceable(file)
    try:
        before = file.read_bytes() if file.exists() else b""
        lines = before + (b"\n" if before and not before.endswith(b"\n") else b"")
        draft = file.with_name(f"{file.name}.new")
        draft.unlink(missing_ok=True)
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as written:
            written.write(lines + f"{key_id} {os.urandom(KEY_BYTES).hex()}\n".encode())
            written.flush()
            os.fsync(written.fileno())
        draft.replace(file)
    except OSError as error:
        raise Failure(f"cannot add a key to {file}: {error.strerror}") from None
    if as_document:
        write_json({"file": str(file), "id": key_id})
    else:
        write_line(f"{file} has the new key {key_id}: nodes that run with this file use it within a second")
