"""The examples of the manual pages, by command. Each is a sentence and the lines to type."""

from __future__ import annotations

from typing import NamedTuple


class Example(NamedTuple):
    """What it shows, and the lines as they are typed."""

    explanation: str
    lines: tuple[str, ...]


EXAMPLES: dict[str, tuple[Example, ...]] = {
    "dyn": (
        Example(
            "A cluster on this machine, written to by redis-cli and read by dyn:",
            ("dyn up --detach", "redis-cli -p 7001 set greeting hello", "dyn --port 7002 get greeting", "dyn down"),
        ),
        Example(
            "Which nodes are up, for a script that only wants to know:",
            ("dyn cluster status >/dev/null || echo 'look at the cluster'",),
        ),
    ),
    "dyn up": (
        Example("Three nodes in ./dyn-data, until Ctrl-C:", ("dyn up",)),
        Example(
            "Five nodes that go on running and sync every write, then down, then up again with their data:",
            (
                "dyn up --nodes 5 --dir /var/tmp/five --base-port 7101 --fsync always --detach",
                "dyn down --dir /var/tmp/five",
                "dyn up --dir /var/tmp/five --detach",
            ),
        ),
    ),
    "dyn down": (Example("Stop the cluster of ./dyn-data:", ("dyn down",)),),
    "dyn node start": (
        Example(
            "A node on a machine of its own, the first time and later:",
            (
                "dyn node start --dir /var/lib/dyn --name n1 --listen 10.0.0.1:7001 --zone rack1",
                "dyn node start --dir /var/lib/dyn",
            ),
        ),
        Example(
            "The same command line for every pod of a stateful set, whose addresses change with each start:",
            (
                'dyn node start --dir /data --name "$POD" --listen 0.0.0.0:7001 --advertise "$POD.dyn:7001" \\',
                "    --seeds dyn-0.dyn:7001,dyn-1.dyn:7001,dyn-2.dyn:7001",
            ),
        ),
        Example(
            "One more for a cluster that runs; the plan shows what it will get:",
            ("dyn node start --dir /var/lib/dyn --name n4 --listen 10.0.0.4:7001 --join 10.0.0.1:7001",),
        ),
    ),
    "dyn cluster init": (
        Example(
            "Three machines become a cluster:",
            ("dyn cluster init 10.0.0.1:7001 10.0.0.2:7001 10.0.0.3:7001",),
        ),
    ),
    "dyn cluster status": (
        Example(
            "The nodes that are not up, with jq:",
            ("dyn cluster status --json | jq -r '.nodes[] | select(.state != \"up\") | .name'",),
        ),
    ),
    "dyn cluster join": (
        Example(
            "Two nodes more, seen beforehand, then made members:",
            ("dyn cluster join 10.0.0.4:7001 10.0.0.5:7001", "dyn cluster plan", "dyn cluster commit --epoch 2 --wait"),
        ),
    ),
    "dyn cluster leave": (
        Example(
            "A machine is to be switched off:",
            ("dyn cluster leave n3", "dyn cluster plan", "dyn cluster commit --epoch 5 --wait"),
        ),
    ),
    "dyn cluster remove": (Example("A machine has burned down:", ("dyn cluster remove n3", "dyn cluster plan")),),
    "dyn cluster replace": (
        Example("A fresh node takes the place of one that is gone:", ("dyn cluster replace n3 10.0.0.9:7001",)),
        Example(
            "Another one that has asked to join by itself:",
            ("dyn node start --dir /var/lib/dyn --name n9 --join 10.0.0.1:7001", "dyn cluster replace n3 n9"),
        ),
    ),
    "dyn cluster weight": (Example("A machine with twice the disk of the others:", ("dyn cluster weight n3 2",)),),
    "dyn cluster zone": (Example("A machine was moved to another rack:", ("dyn cluster zone n3 rack2",)),),
    "dyn cluster readdress": (
        Example(
            "All three nodes have come back with new addresses; one is told where the others are:",
            ("dyn --host 10.0.1.1 cluster readdress 10.0.1.2:7001 10.0.1.3:7001", "dyn --host 10.0.1.1 cluster status"),
        ),
        Example("The same, but n2 and nobody else must be there:", ("dyn cluster readdress n2=10.0.1.2:7001",)),
    ),
    "dyn cluster plan": (
        Example("How many bytes would move:", ("dyn cluster plan --json | jq '[.moves[].bytes] | add'",)),
    ),
    "dyn cluster commit": (
        Example(
            "What was planned, and nothing else:",
            ("epoch=$(dyn cluster plan --json | jq .epoch)", 'dyn cluster commit --epoch "$epoch" --wait'),
        ),
    ),
    "dyn cluster abort": (Example("Not now:", ("dyn cluster abort",)),),
    "dyn ring show": (
        Example(
            "How many partitions have n1 as their first owner:",
            ("dyn ring show --json | jq '[.owners[] | select(.[0] == \"n1\")] | length'",),
        ),
    ),
    "dyn ring locate": (
        Example("The nodes that keep a key:", ("dyn ring locate cart:17 --json | jq -r '.owners[]'",)),
    ),
    "dyn hints list": (
        Example("For whom hints are kept:", ("dyn hints list --json | jq -r '.hints[].owner' | sort -u",)),
    ),
    "dyn hints replay": (
        Example("Before the next node is taken down, see that nobody has anything left:", ("dyn hints replay",)),
    ),
    "dyn repair": (
        Example("After a disk was replaced: all that the node should have, now:", ("dyn repair",)),
        Example(
            "One key that a user complains about, and the partition that it lives in:",
            ("dyn repair --key cart:17", 'dyn repair --partition "$(dyn ring locate cart:17 --json | jq .partition)"'),
        ),
        Example(
            "Started in the evening, looked at in the morning:",
            ("task=$(dyn repair --no-wait --json | jq -r .task)", 'dyn task show "$task"'),
        ),
    ),
    "dyn task list": (
        Example(
            "The repairs that still run:",
            ("dyn task list --json | jq -r '.tasks[] | select(.state == \"running\") | .task'",),
        ),
    ),
    "dyn task show": (
        Example("How many keys a repair has put right:", ("dyn task show TASK --json | jq .keys_repaired",)),
    ),
    "dyn task wait": (
        Example("Go on when the repair has succeeded:", ("dyn task wait TASK && echo 'all owners are equal'",)),
    ),
    "dyn task abort": (Example("Not now:", ("dyn task abort TASK",)),),
    "dyn get": (
        Example("A value, byte for byte, into a file:", ("dyn get --raw picture > picture.png",)),
        Example("All siblings, one a line, as a script takes them:", ("dyn get cart --json | jq -c '.values[]'",)),
    ),
    "dyn set": (
        Example(
            "Read, merge, write back: whoever else wrote meanwhile is not overwritten but becomes a sibling:",
            (
                "seen=$(dyn get cart --json)",
                'merged=$(jq -r \'.values | join(",")\' <<<"$seen")',
                'dyn set cart "$merged" --context "$(jq -r .context <<<"$seen")"',
            ),
        ),
        Example("A file as the value, for an hour:", ("dyn set picture - --ex 3600 < picture.png",)),
    ),
    "dyn del": (
        Example(
            "Delete exactly what was seen earlier, and nothing newer:",
            ("seen=$(dyn get cart --json)", 'dyn del cart --context "$(jq -r .context <<<"$seen")"'),
        ),
    ),
}
