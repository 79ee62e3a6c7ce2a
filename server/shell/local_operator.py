"""The operator on the node's own machine: a password in a file that only the owner of the node's directory can read.

Theory. `dyn up` and `dyn down` need to ask their nodes how they are, also when every user has a password that they do not
know. Whoever can read the directory of a node can read all its data. So such a process may do everything: at its start the
node draws a secret and writes it to DIR/operator, with mode 600. A client that sends `AUTH dyn.local SECRET` is the user
`dyn.local`, who may do everything on this node. The secret changes with each start, and is not sent to other nodes.

If the file cannot be written, there is no such login, and the log says so.
"""

from __future__ import annotations

import logging
import os
import secrets
from pathlib import Path

from server.core.services.users import Users
from server.core.users.rules import hashed

log = logging.getLogger("dyn")
FILE_NAME = "operator"


def admit_local_operator(users: Users, directory: Path) -> None:
    """Draws the secret of this run, and writes it to the directory."""
    secret = secrets.token_hex(32)
    path = directory / FILE_NAME
    beside = path.with_suffix(".new")
    try:
        beside.unlink(missing_ok=True)
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secret + "\n")
        beside.replace(path)
    except OSError as error:
        log.warning("cannot write %s, so dyn up cannot ask this node if it needs a password: %s", path, error.strerror)
        return
    users.local_password = hashed(secret.encode())
