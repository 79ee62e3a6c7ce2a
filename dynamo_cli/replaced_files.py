"""Which files a command may replace.

Theory. A command that writes a file writes another one beside it and renames that over it, so that nobody ever sees half of
it. A rename takes away whatever was there before: over a device or a pipe it would put a plain file in its place (as root,
/dev/null of the whole machine), and over a symbolic link it would cut the link off its target. So only regular files are
replaced, at the place where links lead. This is checked before anything is read or written: a device can be endless.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from dynamo_cli.failures import WrongUsage


def replaceable(path: Path) -> Path:
    """The path that links lead to. Raises WrongUsage if something is there that is no regular file."""
    target = Path(os.path.realpath(path))
    try:
        mode = target.stat().st_mode
    except OSError:
        return target  # nothing is there yet, or the attempt to write says what is wrong
    if not stat.S_ISREG(mode):
        what = "a directory" if stat.S_ISDIR(mode) else "a device, a pipe or a socket"
        raise WrongUsage(f"{path} is {what}, and would be replaced by a file", "name a regular file, or a new one")
    return target
