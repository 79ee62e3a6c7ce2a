"""`dyn doctor`: asks every node of a cluster what it knows, and says what goes wrong in practice, and what to do.

examined.py        the answers of all nodes, and a finding
cluster_checks.py  checks over all nodes together: layout, owners, zones, machines, versions, settings that must agree
node_checks.py     checks of each node: clock, disk, limits, memory, hints, repairs, access, certificates, kernel
checkup.py         all checks in order, and the document of --json

A check is a generator of findings over the answers, pure, so that a test makes its cause from a few fields. A field that a
node of an earlier version does not tell is None: a check leaves that node out, and says "unknown" once.
"""
