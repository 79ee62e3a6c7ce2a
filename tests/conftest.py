"""All tests: hypothesis checks no times, because on a machine that is busy with other tests some would fail.

Processes that the tests start keep their byte code, even if the environment forbids that (containers often do). Otherwise
every node compiles 250 modules before it serves, which takes longer than everything else that it does until then.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")
