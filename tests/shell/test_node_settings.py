"""The settings of a node: the file, what --set says over it, and what node.json remembers over both."""

from __future__ import annotations

from pathlib import Path

import pytest

from server.core.base.config import ConfigError
from server.shell.options import parser
from server.shell.process import read_config


def test_single_settings_override_the_file_and_remembered_options_both(tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_text('siblings_max = 7\nflushall = false\nfsync = "no"\nkey_bytes_max = 100\n')
    words = ["--dir", "d", "--config", str(tmp_path / "s.toml"), "--set", "flushall=true", "--set", "key_bytes_max=9"]
    options = parser().parse_args([*words, "--set", "engine=memory", "--set", "key_bytes_max=8"])
    config = read_config(options.config, dict(options.set), {"fsync": "always"})
    assert (config.siblings_max, config.flushall, config.key_bytes_max) == (7, True, 8)
    assert (config.engine, config.fsync) == ("memory", "always")


@pytest.mark.parametrize(("name", "value"), [("flushall", "yes"), ("nosuch", "1"), ("siblings_max", "1.5")])
def test_a_wrong_setting_is_named(name: str, value: str) -> None:
    options = parser().parse_args(["--dir", "d", "--set", f"{name}={value}"])
    with pytest.raises(ConfigError, match=name):
        read_config(None, dict(options.set), {})


def test_what_is_no_setting_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parser().parse_args(["--dir", "d", "--set", "flushall"])
    assert "'flushall' is not NAME=VALUE" in capsys.readouterr().err
