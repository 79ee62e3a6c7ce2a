"""What operators see and prepare: the health of the cluster, and the plan of a change.

status.py         `cluster status`: one verdict, one sentence
documents.py      the JSON documents of the other commands
sizes.py          how much each partition holds
self_report.py    what a node tells `dyn doctor` of itself
planning.py       what a commit would move, and how long that takes
"""
