"""The checks of `dyn doctor` over all nodes together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from dynamo_cli.doctor.examined import ERROR, NOTE, UNKNOWN, WARNING, Cluster, Finding, told


def reached(cluster: Cluster) -> Iterator[Finding]:
    """Whether each member answers, and tells of itself."""
    for node in cluster.nodes:
        if node.trouble:
            state = node.row.get("state", "unknown")
            text = f"does not answer here ({node.trouble}), so the checks leave it out; its state is {state}"
            advice = (
                "start it, or look at the network to it; if it has another address: dyn cluster readdress HOST:PORT"
            )
            yield Finding(ERROR, (node.name,), text, advice)
    silent = tuple(node.name for node in cluster.nodes if not node.trouble and not node.facts)
    if silent:
        yield Finding(UNKNOWN, silent, "an earlier version, which does not tell what is checked here", "upgrade it")


def status(cluster: Cluster) -> Iterator[Finding]:
    """Whether the cluster calls itself healthy."""
    if cluster.status["verdict"] != "healthy":
        first = cluster.status["summary"].partition("; ")[0]
        yield Finding(
            ERROR, (), f"{cluster.status['verdict']}: {first}", "dyn cluster status says more, and what to do"
        )


def layout(cluster: Cluster) -> Iterator[Finding]:
    """Whether all nodes have the same layout."""
    groups = cluster.by(lambda node: node.get("layout", str))
    if len(groups) > 1:
        epochs = told({f"epoch {text.partition('.')[0] or 'none'}": names for text, names in groups.items()})
        text = f"different layouts: {epochs}"
        advice = "run dyn doctor again: nodes agree within seconds. If they do not, look at the links in their logs"
        yield Finding(ERROR, tuple(name for names in groups.values() for name in names), text, advice)


def owners(cluster: Cluster) -> Iterator[Finding]:
    """Whether every partition has enough owners that live."""
    n, quorum = cluster.ring["n"], max(cluster.status["r"], cluster.status["w"])
    alive = {node.name for node in cluster.nodes if node.row.get("state") == "up"}
    rows = cluster.ring["owners"]
    short = sum(len(alive.intersection(row)) < min(quorum, n) for row in rows)
    one_left = sum(len(alive.intersection(row)) == quorum < len(row) for row in rows)
    if short:
        text = f"{short} of {len(rows)} partitions have fewer than {quorum} owners up: their keys are not served"
        yield Finding(ERROR, (), text, "bring the nodes back that are down (dyn cluster status)")
    elif one_left:
        text = (
            f"{one_left} of {len(rows)} partitions have just {quorum} owners up: one node more, and keys are not served"
        )
        yield Finding(WARNING, (), text, "bring the nodes back that are down (dyn cluster status)")
    if len(cluster.nodes) < 3:
        text = "only one node: its loss loses all" if n < 2 else "only two nodes: while one is down, quorums may fail"
        yield Finding(WARNING, (), text, "three nodes on three machines are the least that survives the loss of one")


def zones(cluster: Cluster) -> Iterator[Finding]:
    """Whether the replicas of each partition are in distinct zones."""
    zone_of = {node["name"]: node["zone"] for node in cluster.ring["nodes"]}
    if len(set(zone_of.values())) < 2:
        return
    shared = _shared(cluster, zone_of)
    if shared:
        of_all = f"{sum(shared.values())} of {len(cluster.ring['owners'])} partitions"
        text = f"replicas of {of_all} share a zone: {_most(shared)}"
        advice = f"{cluster.ring['n']} zones of about the same weight are needed: add nodes there, or dyn cluster zone"
        yield Finding(WARNING, (), text, advice)


def machines(cluster: Cluster) -> Iterator[Finding]:
    """Whether the replicas of each partition are on distinct machines, however the zones are called."""
    groups = cluster.by(lambda node: node.get("machine", str) or None)
    machine_of = {name: names[0] for names in groups.values() for name in names}  # by its first node
    if len(groups) == 1 and len(cluster.nodes) > 1:
        text = "all nodes are on one machine: its loss is the loss of all copies"
        yield Finding(NOTE, (), text, "right for a trial; else run nodes on three machines at least")
        return
    shared = _shared(cluster, machine_of)
    if shared:
        where = next(iter(shared))
        together = [name for name, machine in machine_of.items() if machine == where]
        text = f"replicas of {sum(shared.values())} partitions share a machine, such as that of {', '.join(together)}"
        advice = (
            "give all nodes of a machine one zone, and each machine its own: dyn cluster zone NODE ZONE, plan, commit"
        )
        yield Finding(WARNING, tuple(together), text, advice)
    for names in groups.values():
        of_machine = {node["name"]: node["zone"] for node in cluster.ring["nodes"] if node["name"] in names}
        if len(set(of_machine.values())) > 1:
            text = (
                f"one machine, and {len(set(of_machine.values()))} zones: {', '.join(sorted(set(of_machine.values())))}"
            )
            yield Finding(WARNING, tuple(names), text, "nodes of a machine fail together: one zone (dyn cluster zone)")


def _shared(cluster: Cluster, place_of: Mapping[str, str]) -> Counter[str]:
    """By place, the partitions of which it has several replicas."""
    shared: Counter[str] = Counter()
    for row in cluster.ring["owners"]:
        places = Counter(place_of[name] for name in row if name in place_of)
        shared.update(place for place, count in places.most_common(1) if count > 1)
    return shared


def _most(shared: Counter[str]) -> str:
    return ", ".join(f"{place or 'no zone'} ({count})" for place, count in shared.most_common(3))


def versions(cluster: Cluster) -> Iterator[Finding]:
    """Whether all nodes run one version, in one build, and understand each other."""
    for what, advice in (
        ("version", "upgrade the others, node by node: docs/upgrading.md"),
        ("python", "the same on all nodes is easier to reason about: reinstall the wheel there"),
    ):
        groups = cluster.by(lambda node, what=what: node.get(what, str))  # type: ignore[misc]
        if len(groups) > 1:
            yield Finding(WARNING if what == "version" else NOTE, (), f"different {what}s: {told(groups)}", advice)
    ranges = cluster.by(lambda node: tuple(node.get("protocol", list) or ()) or None)
    if ranges and max(low for low, _ in ranges) > min(high for _, high in ranges):
        text = f"no common protocol between nodes: {told({f'{low} to {high}': who for (low, high), who in ranges.items()})}"
        yield Finding(ERROR, (), text, "upgrade the oldest, by a release in between")
    words = {node.name: set(known) for node in cluster.nodes if (known := node.get("capabilities", list))}
    lacking = [name for name, known in words.items() if known < set().union(*words.values())]
    if lacking:
        text = "lacks capabilities that others have, so commands that need them wait for its upgrade"
        yield Finding(WARNING, tuple(lacking), text, "docs/upgrading.md")


def agreement(cluster: Cluster) -> Iterator[Finding]:
    """Whether settings that must be equal are equal."""
    for name, why in (
        ("fsync", "a write is as durable as the weakest of its owners"),
        ("engine", "a node with the engine memory forgets all when it stops"),
        ("tls_peers", "this is normal only while TLS is being switched on"),
    ):
        groups = cluster.by(lambda node, name=name: node.setting(name))  # type: ignore[misc]
        if len(groups) > 1:
            advice = f"give all nodes the same {name} (file of --config) and start them again, one by one"
            yield Finding(WARNING, (), f"{name} differs: {told(groups)}; {why}", advice)
    secrets = {node.get("peer_auth", str) for node in cluster.nodes} - {None}
    if len(secrets) > 1:
        groups = cluster.by(lambda node: node.get("peer_auth", str))
        advice = "copy the file `secret` of a node that has it into the directories of the others (mode 600)"
        yield Finding(WARNING, (), f"nodes prove themselves differently: {told(groups)}", advice)
