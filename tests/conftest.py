"""All tests: hypothesis measures no time, for on a machine that is busy with other tests that would fail some.

What the tests start keeps its byte code, though the machine may be set up against it (containers often are). Else every
node compiles 250 modules before it serves, which takes longer than all else that it does then.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")
