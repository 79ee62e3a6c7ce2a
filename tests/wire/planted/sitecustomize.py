"""Plants a fault in the node that this Python runs: PYTHONPATH leads here, and DYN_PLANTED names the place.

Python imports a module of this name at its start. The node's own code knows nothing of it.
"""

from __future__ import annotations

import os
import sys
from typing import Any

if "DYN_PLANTED" in os.environ and "server" in sys.orig_argv:
    from server.shell import process

    _make_node = process.make_node

    def _make_broken_node(*given: Any) -> Any:
        node = _make_node(*given)
        node.state.unexpected.plant(os.environ["DYN_PLANTED"])
        return node

    process.make_node = _make_broken_node
