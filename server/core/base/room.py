"""What a node's disk has room for: writes, deletions only, or nothing.

Theory. A store that fills up must stop before its engine fails, and must not be so full that nothing can be deleted any
more: a deletion is a write, too, of a tombstone, and gives room back only when it has been collected and compacted. So
there are two bounds. Below the first a node takes deletions only, below the second nothing at all: it reads on, and writes
no document of its own that can wait.

| level | what clients may | what the node itself writes |
|---|---|---|
| FOR_WRITES | all | all |
| FOR_DELETIONS | read and delete | tombstones, collection, hints, documents; no data that repair or a transfer brings |
| FOR_NOTHING | read | what cannot wait; if the engine refuses it, the node begins anew and reads (shell/process.py) |

Other nodes are told the level (FULL, whose number older nodes take for yes or no). Deletions have routes of their own
(`State.deletion_routes`), where a node counts as able as long as it takes deletions.
"""

from __future__ import annotations

from typing import Final

FOR_WRITES: Final = 0
FOR_DELETIONS: Final = 1
FOR_NOTHING: Final = 2
