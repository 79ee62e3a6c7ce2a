"""Who the user is: a name and a password, from options, the environment, a file, `DYN_URL` or the keyboard.

A password must be seen by nobody else. So no option takes one: every user of the machine sees the command lines of all
processes (`ps`), and shells keep them. A file, the environment or the keyboard are not seen. No message shows a password,
nor a `DYN_URL` that holds one.

The password comes from the first of these that is given: --password-file, DYN_PASSWORD_FILE, DYN_PASSWORD, DYN_URL. The
name is that of --user, else that of DYN_URL, else `default`. If a node wants a login and none of these has a password, the
user is asked on the terminal.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

from dynamo_cli.addresses import Address, urls_in
from dynamo_cli.failures import Failure, unreadable

USER_DEFAULT = "default"
LOCAL_USER, LOCAL_FILE = "dyn.local", "operator"  # the operator on a node's machine (server/shell/local_operator.py)


class Login(NamedTuple):
    """A user and a password."""

    user: str
    password: str


def login_of(user: str | None, password_file: Path | None) -> Login | None:
    """The login that options and environment give; None if they give no password. Raises Failure."""
    from_url = _url_login(os.environ.get("DYN_URL", ""))
    name = user or (from_url.user if from_url is not None else USER_DEFAULT)
    file = password_file or os.environ.get("DYN_PASSWORD_FILE")
    if file:
        return Login(name, read_password(Path(file)))
    password = os.environ.get("DYN_PASSWORD")
    if password:
        return Login(name, password)
    return Login(name, from_url.password) if from_url is not None and from_url.password else None


def _url_login(url: str) -> Login | None:
    """The login in `redis://USER:PASSWORD@HOST:PORT`; None if there is none."""
    before, at, _ = urls_in(url)[0].partition("://")[2].rpartition("@")
    if not at:
        return None
    user, _, password = before.partition(":")
    return Login(unquote(user) or USER_DEFAULT, unquote(password))


def read_password(path: Path) -> str:
    """The first line of a file. Raises Failure."""
    try:
        return path.read_text().partition("\n")[0].rstrip("\r")
    except (OSError, UnicodeDecodeError) as error:
        raise Failure(f"cannot read the password file {path}: {unreadable(error)}") from None


def local_login(directory: Path) -> Login | None:
    """The login of the operator on the machine of the node in `directory`; None if it has none, or another user's."""
    try:
        return Login(LOCAL_USER, (directory / LOCAL_FILE).read_text().strip())
    except (OSError, UnicodeDecodeError):
        return None


def asked_login(user: str | None, address: Address) -> Login | None:
    """Asks for the password on the terminal; None if there is none."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):  # both are open: streams.py
        return None
    import getpass

    name = user or USER_DEFAULT
    return Login(name, getpass.getpass(f"password of user {name} at {address}: "))
