"""`python -m tests.wheel_check DIR` (make wheel-test): the wheel that is installed in DIR/venv runs compiled nodes at once.

Everything is done as a user does it, by the programs of that environment, outside of this checkout.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import redis

from tests.ports import free_ports

ROOT = Path(__file__).parent.parent


def main() -> None:
    """Prints what was found; AssertionError if something is wrong."""
    home = Path(sys.argv[1]).absolute()
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}

    def run(*words: str) -> str:
        done = subprocess.run(words, cwd=home, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{' '.join(words)}: status {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout

    dyn, data, port = str(home / "venv/bin/dyn"), str(home / "data"), free_ports(3)
    said = run(dyn, "--version")
    assert "(compiled, " in said, said
    missing = [path.name for path in _pages() if not list((home / "venv/share").rglob(path.name))]
    assert not missing, f"the wheel lacks {missing}"
    run(dyn, "up", "--dir", data, "--base-port", str(port), "--detach")
    try:
        run(dyn, "--port", str(port), "set", "greeting", "hello")
        assert run(dyn, "--port", str(port + 2), "get", "greeting").strip() == "hello"
        builds = [redis.Redis(port=port + place).info("server")["dyn_build"] for place in range(3)]
        assert builds == ["compiled"] * 3, builds
    finally:
        run(dyn, "down", "--dir", data)
    print(said.strip(), "runs three compiled nodes from the wheel")


def _pages() -> list[Path]:
    return [*(ROOT / "man").iterdir(), *(ROOT / "completions").iterdir()]


if __name__ == "__main__":
    main()
