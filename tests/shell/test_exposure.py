"""What a node warns of that other machines can reach: the table of exposure.py."""

from __future__ import annotations

import pytest

from server.shell.exposure import NO_PASSWORD, NO_SECRET, NO_TLS, OPEN_TO_ALL, exposure


@pytest.mark.parametrize(
    ("is_public", "is_protected", "has_password", "has_tls", "has_secret", "expected"),
    [
        (False, False, False, False, False, ""),
        (True, False, False, False, True, OPEN_TO_ALL),
        (True, False, False, True, True, OPEN_TO_ALL),
        (True, True, False, False, False, NO_SECRET),
        (True, True, False, False, True, NO_PASSWORD),
        (True, False, True, False, True, NO_TLS),
        (True, False, True, True, False, ""),
        (True, True, False, True, False, ""),
    ],
)
def test_the_warning_is_that_of_the_table(
    is_public: bool, is_protected: bool, has_password: bool, has_tls: bool, has_secret: bool, expected: str
) -> None:
    assert exposure(is_public, is_protected, has_password, has_tls, has_secret) == expected
