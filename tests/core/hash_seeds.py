"""Whether a program depends on PYTHONHASHSEED: the core must not (DESIGN §11)."""

import os
import subprocess
import sys


def output_under_any_hash_seed(program: str) -> bytes:
    """What the program prints, which must be the same under every seed."""
    outputs = {
        subprocess.run(
            [sys.executable, "-c", program], env=os.environ | {"PYTHONHASHSEED": seed}, check=True, capture_output=True
        ).stdout
        for seed in ("0", "1")
    }
    assert len(outputs) == 1
    return outputs.pop()
