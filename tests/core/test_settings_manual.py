"""dyn.toml(5) is the page of the config class, and says something of each setting."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from server.core.base.config import CHOICES, DEFAULTS, LIVE, LOG_AREAS
from server.settings_manual import documented, page

PAGE = Path(__file__).parent.parent.parent / "man" / "dyn.toml.5"


def test_the_page_is_current() -> None:
    assert PAGE.read_text() == page(), "run `make pages`"


def test_every_setting_is_there_with_its_default_and_a_sentence() -> None:
    rows = documented()
    assert [row.name for row in rows] == list(DEFAULTS)
    assert [row.name for row in rows if len(row.text.split()) < 2 or row.text.startswith("the same")] == []
    assert all(row.heading for row in rows) and len({row.heading for row in rows}) > 8
    shown = page().replace("\\-", "-")
    assert ".B siblings_max \\fR= 100, live\n" in shown and ".B tree_leaf_bits \\fR= 20\n" in shown
    assert ".B hints_bytes_max \\fR= 268435456 (256 MiB), live\n" in shown
    assert all(f".B {name} " in shown for name in LIVE)
    assert all(word in shown for words in CHOICES.values() for word in words)
    assert "peer_state (peer, state, reason, after)" in shown and all(f".B {area}\n" in shown for area in LOG_AREAS)


@pytest.mark.skipif(shutil.which("groff") is None, reason="groff is not installed")
def test_groff_has_nothing_to_warn_of() -> None:
    done = subprocess.run(
        ["groff", "-man", "-Tutf8", "-ww", "-z", str(PAGE)], capture_output=True, text=True, check=True
    )
    assert (done.stdout, done.stderr) == ("", "")
