"""What a node's disk has room for: writes, deletions only, or nothing.

Theory. A store must stop before its engine fails, and while deletions are still possible. A deletion is a write, too:
it writes a tombstone, and gives room back only after collection and compaction. So there are two limits. With less room
than the first limit a node accepts deletions only. With less than the second it accepts nothing: it serves reads, and
does not write its own documents if they can wait.

    level           clients may        the node itself writes
    FOR_WRITES      do everything      everything
    FOR_DELETIONS   read and delete    tombstones, collection, hints, documents; but no records of repair or transfers
    FOR_NOTHING     read               what cannot wait; if the engine refuses that, the node restarts and serves reads
                                       (shell/process.py)

A node sends its level to the others (FULL; older nodes read the number as yes or no). Deletions have routes of their own
(`State.deletion_routes`): for these a node has room as long as it accepts deletions.
"""

from __future__ import annotations

from typing import Final

FOR_WRITES: Final = 0
FOR_DELETIONS: Final = 1
FOR_NOTHING: Final = 2
