"""The checks of `dyn doctor` of each node by itself. Equal findings of several nodes become one (checkup.py)."""

from __future__ import annotations

from collections.abc import Iterator

from dynamo_cli.doctor.examined import ERROR, NOTE, WARNING, Cluster, Examined, Finding
from dynamo_cli.plain import size

DAY_S = 86_400
DISK_SHARE_MIN = 0.15
DISK_LEASTS = 4  # times disk_free_bytes_min
FILES_MIN = 8192
MEMORY_SHARE_MAX = 0.7  # of a machine, for the caches of all its nodes
RESIDENT_SHARE_MAX = 0.9
HINT_AGE_S_MAX = 600
HINT_SHARE_MAX = 0.8
CERTIFICATE_DAYS_MIN = 30
SOMAXCONN_MIN = 1024  # what a node asks for (shell/listening.py)
SWAPPINESS_MAX = 10


def clocks(cluster: Cluster) -> Iterator[Finding]:
    """Whether each clock agrees with those of most nodes."""
    for node in cluster.nodes:
        error_ms = node.get("clock_error_ms", int)
        if error_ms is not None and abs(error_ms) > (node.setting("clock_warn_ms") or 5000):
            words = "ahead" if error_ms > 0 else "behind"
            text = f"its clock is {abs(error_ms) / 1000:.1f} s {words}; keys expire by the others' clocks"
            yield Finding(WARNING, (node.name,), text, "set it, and let NTP keep it: timedatectl set-ntp true")
        if node.facts and len(cluster.nodes) > 2 and node.facts.get("clock_bound_ms", 0) is None:
            text = "knows the clocks of no majority of the nodes"
            yield Finding(WARNING, (node.name,), text, "look at its links to the others: dyn cluster status there")


def builds(cluster: Cluster) -> Iterator[Finding]:
    """Whether each node runs compiled code."""
    for node in cluster.nodes:
        if node.get("build", str) == "interpreted":
            advice = "install the wheel that was built for its Python (make wheel); in a checkout make compiled"
            yield Finding(WARNING, (node.name,), "runs interpreted code: several times slower than compiled", advice)


def disks(cluster: Cluster) -> Iterator[Finding]:
    """Whether there is room on each disk."""
    for node in cluster.nodes:
        free, total = node.get("disk_free_bytes", int), node.get("disk_bytes", int)
        if free is None or not total:
            continue
        least = node.setting("disk_free_bytes_min") or 0
        text = f"{size(free)} of {size(total)} are free on its disk"
        if free < least:
            text += f", less than disk_free_bytes_min ({size(least)}): it refuses writes"
            yield Finding(ERROR, (node.name,), text, "free some space, or move its data: dyn cluster replace")
        elif free < max(DISK_SHARE_MIN * total, DISK_LEASTS * least):
            advice = "free some space, or add nodes (dyn cluster join); below disk_free_bytes_min it refuses writes"
            yield Finding(WARNING, (node.name,), text, advice)


def durability(cluster: Cluster) -> Iterator[Finding]:
    """Whether what is acknowledged survives."""
    for node in cluster.nodes:
        if node.setting("engine") == "memory":
            yield Finding(WARNING, (node.name,), "keeps its data in memory only (engine memory)", "--engine rocksdb")
        elif node.setting("fsync") == "no":
            text = "never syncs by itself (fsync no): a power failure may lose minutes of its writes"
            yield Finding(WARNING, (node.name,), text, 'fsync = "everysec", or "always"')


def limits(cluster: Cluster) -> Iterator[Finding]:
    """Whether each process may open enough files."""
    for node in cluster.nodes:
        hard = node.get("files_hard_max", int)
        if hard is not None and 0 <= hard < FILES_MIN:
            text = f"may open {hard} files, which is enough for {node.setting('clients_max')} clients"
            yield Finding(WARNING, (node.name,), text, "LimitNOFILE=65536 in its unit, or ulimit -Hn 65536")


def memory(cluster: Cluster) -> Iterator[Finding]:
    """Whether the caches of all nodes fit into the memory of their machine."""
    machines: dict[str, list[Examined]] = {}
    for node in cluster.nodes:
        machines.setdefault(node.get("machine", str) or node.name, []).append(node)
        used, allowed = node.get("resident_bytes", int), node.get("memory_bytes", int)
        if used and allowed and used > RESIDENT_SHARE_MAX * allowed:
            text = f"uses {size(used)} of the {size(allowed)} that it may: the kernel ends it when it needs more"
            yield Finding(ERROR, (node.name,), text, "give it more memory, or a smaller cache_memory_percent")
    for nodes in machines.values():
        caches = sum(
            (node.setting(name) or 0) for node in nodes for name in ("record_cache_bytes", "block_cache_bytes")
        )
        whole = max((node.get("machine_memory_bytes", int) or 0) for node in nodes)
        if whole and caches > MEMORY_SHARE_MAX * whole:
            grown = f"{size(caches)} of its {size(whole)}"
            text = f"the caches of the {len(nodes)} nodes of a machine may grow to {grown}"
            advice = f"cache_memory_percent = {60 // len(nodes)} on each of them"
            yield Finding(WARNING, tuple(node.name for node in nodes), text, advice)


def hints(cluster: Cluster) -> Iterator[Finding]:
    """Whether hints are delivered, and find room."""
    up = {node.name for node in cluster.nodes if node.row.get("state") == "up"}
    for node in cluster.nodes:
        rows = node.get("hints", list) or []
        for row in rows:
            if row["owner"] in up and row["oldest_s"] > HINT_AGE_S_MAX:
                text = f"keeps {row['count']} hints for {row['owner']}, which is up, the oldest for {row['oldest_s']} s"
                yield Finding(WARNING, (node.name,), text, "dyn hints replay delivers them, or says why it cannot")
        room = node.setting("hints_bytes_max")
        if room and sum(row["bytes"] for row in rows) > HINT_SHARE_MAX * room:
            text = "has little room left for hints (hints_bytes_max): further ones are dropped"
            advice = "bring the owners back (dyn hints list), or dyn cluster replace what is gone for good"
            yield Finding(WARNING, (node.name,), text, advice)
        for owner, count in (node.get("hints_dropped", dict) or {}).items():
            text = f"has dropped {count} hints for {owner}, which lacks these writes"
            yield Finding(WARNING, (node.name,), text, "dyn repair brings them now, anti-entropy in time")


def repairs(cluster: Cluster) -> Iterator[Finding]:
    """Whether each node has lately been compared with those that share keys with it."""
    for node in cluster.nodes:
        interval_s = (node.setting("repair_interval_ms") or 600_000) / 1000
        for peer, age_s in (node.get("compared_s", dict) or {}).items():
            if age_s > max(DAY_S, 3 * interval_s):
                text = f"was last compared with {peer} {age_s / 3600:.0f} hours ago"
                yield Finding(WARNING, (node.name,), text, "dyn repair compares them now; its log says what fails")


def access(cluster: Cluster) -> Iterator[Finding]:
    """Who can use each node, and what can be read on the network."""
    for node in cluster.nodes:
        if not node.get("is_public", bool):
            continue
        named = (node.name,)
        if not node.facts.get("has_password", True) and not node.facts.get("is_protected", True):
            text = f"listens on {node.facts.get('listen')}: whoever reaches it may read, change and delete everything"
            yield Finding(ERROR, named, text, "set requirepass in the file of --config, or protected_mode = true")
        elif not node.facts.get("has_password", True):
            text = "has no password, so protected mode refuses clients of other machines"
            yield Finding(NOTE, named, text, "requirepass in the file of --config, if these are to be served")
        elif node.get("has_tls", bool) is False:
            text = "takes passwords and values without TLS from other machines"
            yield Finding(WARNING, named, text, "dyn tls make, then tls_cert_file, tls_key_file, tls_port")
        if node.get("peer_auth", str) in ("none", "open"):
            text = "does not require other nodes to prove a secret: whoever reaches the port may act as a node"
            yield Finding(ERROR, named, text, "dyn secret make FILE, and give it to all nodes as DIR/secret")


def addresses(cluster: Cluster) -> Iterator[Finding]:
    """Whether nodes of several machines can be reached by the addresses that the layout has."""
    several = len(cluster.by(lambda node: node.get("machine", str) or None)) > 1
    for node in cluster.nodes:
        host = node.address.rpartition(":")[0]
        if several and (host.startswith("127.") or host in ("localhost", "[::1]")):
            text = f"is known as {node.address}, which other machines cannot reach"
            advice = "start it with --listen or --advertise of an address of its machine"
            yield Finding(ERROR, (node.name,), text, advice)


def certificates(cluster: Cluster) -> Iterator[Finding]:
    """Whether certificates are valid for a while."""
    for node in cluster.nodes:
        days = node.get("certificate_days", int)
        if days is not None and days < CERTIFICATE_DAYS_MIN:
            text = (
                f"its certificate expires in {days} days" if days >= 0 else f"its certificate expired {-days} days ago"
            )
            advice = "renew the file tls_cert_file; the node reads it by itself"
            yield Finding(WARNING if days >= 0 else ERROR, (node.name,), text, advice)


def kernel(cluster: Cluster) -> Iterator[Finding]:
    """Settings of the kernel that hurt a node."""
    for node in cluster.nodes:
        found = node.get("kernel", dict) or {}
        if found.get("overcommit_memory") == 2:
            text = "vm.overcommit_memory is 2: memory may be refused while plenty is free, which ends the node"
            yield Finding(WARNING, (node.name,), text, "sysctl vm.overcommit_memory=0 (or 1)")
        if found.get("transparent_hugepages") == "always":
            text = "transparent huge pages are on for all memory: pauses, and more memory than is used"
            advice = "echo madvise >/sys/kernel/mm/transparent_hugepage/enabled"
            yield Finding(WARNING, (node.name,), text, advice)
        if 0 <= found.get("somaxconn", SOMAXCONN_MIN) < SOMAXCONN_MIN:
            text = f"net.core.somaxconn is {found['somaxconn']}: when many clients connect at once, some are refused"
            yield Finding(WARNING, (node.name,), text, f"sysctl net.core.somaxconn={SOMAXCONN_MIN}")
        if node.get("swap_bytes", int) and found.get("swappiness", 0) > SWAPPINESS_MAX:
            text = (
                f"vm.swappiness is {found['swappiness']} on a machine with swap: parts of the caches may be swapped out"
            )
            yield Finding(NOTE, (node.name,), text, "sysctl vm.swappiness=1, or no swap")
