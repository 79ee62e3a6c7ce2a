"""The examples of the manual pages, by command: a sentence each, and the lines to type."""

from __future__ import annotations

from typing import NamedTuple


class Example(NamedTuple):
    """A sentence that explains the lines, and the lines as they are typed."""

    explanation: str
    lines: tuple[str, ...]


EXAMPLES: dict[str, tuple[Example, ...]] = {
    "dyn": (
        Example(
            "A cluster on this machine, written to by redis-cli and read by dyn:",
            ("dyn up --detach", "redis-cli -p 7001 set greeting hello", "dyn --port 7002 get greeting", "dyn down"),
        ),
        Example(
            "Check in a script whether the cluster is healthy:",
            ("dyn cluster status >/dev/null || echo 'look at the cluster'",),
        ),
    ),
    "dyn doctor": (
        Example("Check all nodes, from any one of them:", ("dyn --host 10.0.0.1 doctor",)),
        Example(
            "The errors alone, for a script:",
            ("dyn doctor --json | jq -r '.findings[] | select(.severity == \"error\") | .text'",),
        ),
    ),
    "dyn up": (
        Example("Three nodes in ./dyn-data, until Ctrl-C:", ("dyn up",)),
        Example(
            "Run five nodes in the background that sync every write, stop them, and start them again with their data:",
            (
                "dyn up --nodes 5 --dir /var/tmp/five --base-port 7101 --fsync always --detach",
                "dyn down --dir /var/tmp/five",
                "dyn up --dir /var/tmp/five --detach",
            ),
        ),
    ),
    "dyn config show": (
        Example("What concerns hints, and where it comes from:", ("dyn config show '*hint*'",)),
        Example(
            "The settings that somebody has changed since the node's start:",
            ("dyn config show --json | jq -r '.settings[] | select(.source == \"live\") | .name'",),
        ),
    ),
    "dyn config set": (
        Example("Keep 5 copies of each key, on 5 nodes:", ("dyn config set n 5 --r 3 --w 3", "dyn cluster plan")),
        Example("Let repairs run faster on all nodes, for now:", ("dyn config set --all background_keys_per_s 5000",)),
    ),
    "dyn config check": (
        Example("Before a node reads it:", ("dyn config check /etc/dyn/node.toml && systemctl reload dyn",)),
    ),
    "dyn trace": (
        Example(
            "Why does this read take long? Ask node n2, and look at the times:", ("dyn --port 7002 trace GET cart:17",)
        ),
        Example(
            "How long the replicas took to commit a write, as a list:",
            ("""dyn trace SET k v --json | jq -r '.nodes[] | [.node, .role, .took_us] | @tsv'""",),
        ),
    ),
    "dyn import": (
        Example(
            "Copy a server whose writers are stopped, its database 1 only, not faster than 20,000 keys a second:",
            ("dyn import --rate 20000 redis://10.0.0.5:6379/1",),
        ),
        Example(
            "Copy a server in use, and go on until nothing is behind and its writers are stopped; then press Ctrl-C:",
            ("dyn import --follow redis://10.0.0.5:6379",),
        ),
        Example("Import a file; after an interruption the same line goes on:", ("dyn import dump.rdb",)),
    ),
    "dyn export": (
        Example(
            "Write all keys to a file, and load it into a Redis of its own:",
            ("dyn export dump.rdb", "redis-server --dbfilename dump.rdb"),
        ),
    ),
    "dyn down": (Example("Stop the cluster of ./dyn-data:", ("dyn down",)),),
    "dyn node start": (
        Example(
            "A node on a machine of its own, the first time and later:",
            (
                "dyn node start --dir /var/lib/dyn --name n1 --listen 10.0.0.1:7001 --secret-file /etc/dyn/secret \\",
                "    --config /etc/dyn/node.toml",
                "dyn node start --dir /var/lib/dyn --config /etc/dyn/node.toml",
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
            "Less on the disk for more CPU: compression is lz4 (the default), zstd or none, and may change at each start:",
            ("dyn node start --dir /var/lib/dyn --config /etc/dyn/node.toml --set compression=zstd",),
        ),
        Example(
            "Add a node to a running cluster; dyn cluster plan shows what it will get:",
            (
                "dyn node start --dir /var/lib/dyn --name n4 --listen 10.0.0.4:7001 --join 10.0.0.1:7001 \\",
                "    --secret-file /etc/dyn/secret --config /etc/dyn/node.toml",
            ),
        ),
    ),
    "dyn cluster init": (
        Example(
            "Form a cluster from three machines. Each has the file that dyn secret make wrote, and node.toml with a "
            "password for clients (requirepass): without one a node serves only clients of its own machine.",
            (
                "dyn node start --dir /var/lib/dyn --listen 10.0.0.1:7001 --secret-file /etc/dyn/secret \\",
                "    --config /etc/dyn/node.toml  # on each",
                "dyn --password-file password cluster init 10.0.0.1:7001 10.0.0.2:7001 10.0.0.3:7001",
            ),
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
            "Add two nodes: stage them, look at the plan, commit it:",
            ("dyn cluster join 10.0.0.4:7001 10.0.0.5:7001", "dyn cluster plan", "dyn cluster commit --epoch 2 --wait"),
        ),
    ),
    "dyn cluster leave": (
        Example(
            "Drain a machine before it is switched off:",
            ("dyn cluster leave n3", "dyn cluster plan", "dyn cluster commit --epoch 5 --wait"),
        ),
    ),
    "dyn cluster remove": (
        Example("Remove a machine that is lost for good:", ("dyn cluster remove n3", "dyn cluster plan")),
    ),
    "dyn cluster replace": (
        Example("Replace a lost node by a fresh one:", ("dyn cluster replace n3 10.0.0.9:7001",)),
        Example(
            "Replace it by a node that has staged its own join:",
            ("dyn node start --dir /var/lib/dyn --name n9 --join 10.0.0.1:7001", "dyn cluster replace n3 n9"),
        ),
    ),
    "dyn cluster weight": (
        Example("Give a machine with twice the disk twice the data:", ("dyn cluster weight n3 2",)),
    ),
    "dyn cluster zone": (Example("Move a machine to another rack:", ("dyn cluster zone n3 rack2",)),),
    "dyn cluster readdress": (
        Example(
            "All three nodes have new addresses; tell one of them where the others are:",
            ("dyn --host 10.0.1.1 cluster readdress 10.0.1.2:7001 10.0.1.3:7001", "dyn --host 10.0.1.1 cluster status"),
        ),
        Example("The same, but accept only n2 at that address:", ("dyn cluster readdress n2=10.0.1.2:7001",)),
    ),
    "dyn cluster plan": (
        Example("How many bytes would move:", ("dyn cluster plan --json | jq '[.moves[].bytes] | add'",)),
    ),
    "dyn cluster commit": (
        Example(
            "Commit exactly the plan that was shown:",
            (
                "plan=$(dyn cluster plan --json)",
                'dyn cluster commit --epoch "$(jq .epoch <<<"$plan")" --plan "$(jq -r .digest <<<"$plan")" --wait',
            ),
        ),
    ),
    "dyn cluster abort": (Example("Drop all staged changes:", ("dyn cluster abort",)),),
    "dyn ring show": (
        Example(
            "Count the partitions whose first owner is n1:",
            ("dyn ring show --json | jq '[.owners[] | select(.[0] == \"n1\")] | length'",),
        ),
    ),
    "dyn ring locate": (
        Example("The nodes that keep a key:", ("dyn ring locate cart:17 --json | jq -r '.owners[]'",)),
    ),
    "dyn hints list": (
        Example("The owners that hints are kept for:", ("dyn hints list --json | jq -r '.hints[].owner' | sort -u",)),
    ),
    "dyn hints replay": (Example("Deliver all hints before the next node is stopped:", ("dyn hints replay",)),),
    "dyn repair": (
        Example("Repair everything:", ("dyn repair",)),
        Example(
            "Repair one key, then its whole partition:",
            ("dyn repair --key cart:17", 'dyn repair --partition "$(dyn ring locate cart:17 --json | jq .partition)"'),
        ),
        Example(
            "Start a repair now, and look at it later:",
            ("task=$(dyn repair --no-wait --json | jq -r .task)", 'dyn task show "$task"'),
        ),
    ),
    "dyn siblings list": (
        Example("All carts that need a look, with all nodes up:", ("dyn siblings list --match 'cart:*'",)),
        Example(
            "The keys that hide a hash, one a line:",
            ("dyn siblings list --json | jq -r '.keys[] | select(.hidden.hash) | .key'",),
        ),
    ),
    "dyn siblings show": (Example("What is under a key:", ("dyn siblings show cart:17",)),),
    "dyn siblings resolve": (
        Example("Keep what plain commands show:", ("dyn siblings resolve cart:17",)),
        Example(
            "Keep the hash, unless the key was written since the look:",
            (
                "seen=$(dyn siblings show cart:17 --json)",
                'dyn siblings resolve cart:17 --keep hash --context "$(jq -r .context <<<"$seen")"',
            ),
        ),
        Example("Make it a new string:", ("dyn siblings resolve cart:17 --value apples,pears",)),
    ),
    "dyn task list": (
        Example(
            "List the tasks that still run:",
            ("dyn task list --json | jq -r '.tasks[] | select(.state == \"running\") | .task'",),
        ),
    ),
    "dyn task show": (
        Example("How many keys a repair has changed:", ("dyn task show TASK --json | jq .keys_repaired",)),
    ),
    "dyn task wait": (
        Example("Continue once the repair has succeeded:", ("dyn task wait TASK && echo 'all owners are equal'",)),
    ),
    "dyn task pause": (
        Example("Let the nodes rest while the load is high, then go on:", ("dyn task pause", "dyn task resume")),
    ),
    "dyn task resume": (Example("Let one transfer go on:", ("dyn task resume transfer-2-n4",)),),
    "dyn task abort": (Example("End a task:", ("dyn task abort TASK",)),),
    "dyn key make": (
        Example(
            "Encrypt what a node stores:",
            (
                "dyn key make --file /etc/dyn/keys",
                "dyn node start --dir /var/lib/dyn --set encryption_key_file=/etc/dyn/keys",
            ),
        ),
    ),
    "dyn secret make": (
        Example(
            "A secret for three machines:",
            ("dyn secret make secret", "for host in a b c; do scp -p secret root@$host:/etc/dyn/secret; done"),
        ),
    ),
    "dyn secret add": (
        Example(
            "Rotate the secret of a cluster that dyn up runs in ./dyn-data; look at the status before each further step:",
            (
                "dyn secret add dyn-data/n*/secret",
                "dyn cluster status --json | jq -c '.nodes[].secrets'",
                "dyn secret use dyn-data/n*/secret",
                "dyn secret drop dyn-data/n*/secret",
            ),
        ),
    ),
    "dyn secret use": (
        Example(
            "The second step of a rotation on several machines:",
            (
                "dyn secret use /etc/dyn/secret",
                "for host in b c; do scp -p /etc/dyn/secret root@$host:/etc/dyn/secret; done",
            ),
        ),
    ),
    "dyn secret drop": (
        Example("The last step of a rotation on this machine:", ("dyn secret drop dyn-data/n*/secret",)),
    ),
    "dyn tls make": (
        Example(
            "Certificates for a node and a client, and a connection by TLS:",
            (
                "dyn tls make --dir certs --host n1.example --host 10.0.0.7",
                "dyn tls make --dir certs --client alice",
                "redis-cli -h n1.example -p 7101 --tls --cacert certs/ca.crt --cert certs/alice.crt --key certs/alice.key",
            ),
        ),
        Example(
            "Renew the node's certificate; it reads the new one by itself:",
            ("dyn tls make --dir certs --host n1.example",),
        ),
    ),
    "dyn tls revoke": (
        Example(
            "A client's key was stolen; nodes with tls_crl_file = /etc/dyn/ca.crl refuse its certificate from then on:",
            ("dyn tls revoke --dir certs alice", "scp certs/ca.crl n1.example:/etc/dyn/ca.crl"),
        ),
        Example("Make the list anew before it is out of date:", ("dyn tls revoke --dir certs",)),
    ),
    "dyn get": (
        Example("Write a value to a file, byte for byte:", ("dyn get --raw picture > picture.png",)),
        Example("All siblings for a script, one a line:", ("dyn get cart --json | jq -c '.values[]'",)),
    ),
    "dyn set": (
        Example(
            "Read, merge, write back; a value that another client writes meanwhile becomes a sibling:",
            (
                "seen=$(dyn get cart --json)",
                'merged=$(jq -r \'.values | join(",")\' <<<"$seen")',
                'dyn set cart "$merged" --context "$(jq -r .context <<<"$seen")"',
            ),
        ),
        Example("Store a file for an hour:", ("dyn set picture - --ex 3600 < picture.png",)),
    ),
    "dyn del": (
        Example(
            "Delete exactly the values that were read, and nothing newer:",
            ("seen=$(dyn get cart --json)", 'dyn del cart --context "$(jq -r .context <<<"$seen")"'),
        ),
    ),
}
