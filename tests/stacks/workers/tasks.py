"""The job of all queues."""

from __future__ import annotations

import os

URL = os.environ.get("STACK_URL", "redis://127.0.0.1:6379")


def record(number: int) -> int:
    """Appends its number to the file of done jobs, in one write. Returns its double, which is the result of the job."""
    file = os.open(os.environ["STACK_DONE"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(file, b"%d\n" % number)
    finally:
        os.close(file)
    return 2 * number
