"""`cluster.json`: what a directory of `dyn up` stores of its cluster, so that `dyn up --dir DIR` alone restarts it.

Names and addresses of nodes are part of the layout that the nodes keep themselves. So they are fixed when the directory
is made. If a user asks for other ones later, the error says what to do instead. The fsync policy and the settings may
change between runs, and give way to the file of settings and the environment (node_settings.py). The file is written
before the first node starts, and replaced as a whole.

A directory that has lost this file still has its nodes, and each node stores its own name, address and id (`node.json`).
The cluster is then read from those. It must not be treated as a new one: nodes with data would move to other ports, where
the members of their layout are not.

The ids of the nodes are made here and passed to the nodes. So a node that lost its whole directory comes back as the same
member, and the others fill it. In a cluster made by an earlier release the ids are read from the nodes' directories.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from dynamo_cli.addresses import DEFAULT_HOST, DEFAULT_PORT, PORT_MAX, Address, parse_address
from dynamo_cli.failures import Failure, WrongUsage, unreadable
from dynamo_cli.node_settings import change_settings, check_config, stronger_sources

FILE_NAME = "cluster.json"
FORMAT = 1
NODE_FILE_NAME = "node.json"  # in the directory of each node
ID_BYTES = 20  # of a node's id, which is written in hexadecimal
NODE_NAME = re.compile(r"n([1-9][0-9]*)")  # the names of the nodes that `dyn up` makes
PRIVATE = 0o700  # of the directory of a node, as a node makes it (server/shell/directory.py)
NODES_DEFAULT = 3
NODES_MAX = 9
WEIGHT_DEFAULT = 1  # the same as of a node that is started by hand


class Fsync(StrEnum):
    """When a node syncs its writes to disk, like Redis' appendfsync."""

    ALWAYS = "always"
    EVERYSEC = "everysec"
    NO = "no"


class Engine(StrEnum):
    """The storage engine of a node."""

    ROCKSDB = "rocksdb"
    MEMORY = "memory"


@dataclass(frozen=True, slots=True)
class LocalNode:
    """One node of a local cluster."""

    name: str
    address: Address
    zone: str
    weight: int
    id: str = ""  # empty if it is not known


@dataclass(frozen=True, slots=True)
class UpOptions:
    """The options of `dyn up`; None where not given."""

    nodes: int | None = None
    base_port: int | None = None
    fsync: Fsync | None = None
    engine: Engine | None = None
    config: Path | None = None
    settings: Mapping[str, str] = field(default_factory=dict)  # changes: "" removes one


@dataclass(frozen=True, slots=True)
class LocalCluster:
    """A cluster on this machine. `directory` is absolute, without symbolic links.

    `config` is the absolute path of a file of settings; `settings` are single ones, which override those of the file.
    `fsync` and `engine` are None if the file or the environment gives them.
    """

    directory: Path
    nodes: tuple[LocalNode, ...]
    fsync: Fsync | None
    engine: Engine | None
    config: Path | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    overruled: tuple[str, ...] = field(default=(), compare=False)  # what counts no more, in sentences
    is_recovered: bool = field(
        default=False, compare=False
    )  # `cluster.json` is missing; read from the nodes' directories

    def node_directory(self, node: LocalNode) -> Path:
        """The directory with the node's data, `pid` and `log`."""
        return self.directory / node.name

    def save(self) -> None:
        """Makes the directories and writes `cluster.json`."""
        for node in self.nodes:
            self.node_directory(node).mkdir(mode=PRIVATE, parents=True, exist_ok=True)
        nodes = [{**asdict(node), "address": str(node.address)} for node in self.nodes]
        document: dict[str, Any] = {"format": FORMAT, "fsync": self.fsync, "engine": self.engine, "nodes": nodes}
        document = {name: value for name, value in document.items() if value is not None}
        if self.config is not None:
            document["config"] = str(self.config)
        if self.settings:
            document["settings"] = dict(self.settings)
        draft = self.directory / f"{FILE_NAME}.new"
        draft.write_text(json.dumps(document, indent=2) + "\n")
        os.replace(draft, self.directory / FILE_NAME)


def plan(directory: Path, wanted: UpOptions) -> LocalCluster:
    """The cluster that `dyn up` is to run: the stored one if there is one, else a new one, which is not saved yet.

    Raises WrongUsage if the options contradict the stored cluster, Failure if that or the settings cannot be read.
    """
    known = load(directory)
    if known is None:
        return _new(directory.resolve(), wanted)
    elsewhere = "start another cluster in a new directory: dyn up --dir OTHER --base-port PORT"
    count = len(known.nodes)
    if wanted.nodes not in (None, count):
        message = f"{directory} holds a cluster of {_nodes(count)}, so --nodes {wanted.nodes} does not fit"
        raise WrongUsage(message, f"leave --nodes out to start it again, or {elsewhere}")
    first_port = known.nodes[0].address.port
    if wanted.base_port not in (None, first_port):
        message = (
            f"the cluster in {directory} begins at port {first_port}, so --base-port {wanted.base_port} does not fit"
        )
        raise WrongUsage(message, f"leave --base-port out to start it again, or {elsewhere}")
    if known.engine is not None and wanted.engine not in (None, known.engine):
        message = (
            f"the cluster in {directory} keeps its data in {known.engine}, so --engine {wanted.engine} does not fit"
        )
        raise WrongUsage(message, f"leave --engine out to start it again, or {elsewhere}")
    config = wanted.config or known.config
    return _with_stored(known, wanted, config and check_config(config))


def _with_stored(known: LocalCluster, wanted: UpOptions, config: Path | None) -> LocalCluster:
    """The stored cluster with what this start wants, without stored settings that a stronger source gives."""
    stored = {**known.settings, "fsync": known.fsync, "engine": known.engine}
    now = {**wanted.settings, "fsync": wanted.fsync, "engine": wanted.engine}
    places = stronger_sources([name for name, value in stored.items() if value and now.get(name) is None], config)
    settings = {name: value for name, value in known.settings.items() if name not in places}
    return replace(
        known,
        fsync=wanted.fsync or (None if "fsync" in places else known.fsync),
        engine=wanted.engine or (None if "engine" in places else known.engine),
        config=config,
        settings=change_settings(settings, wanted.settings),
        overruled=tuple(
            f"{name}={stored[name]} of an earlier start counts no more: {place} gives {name}"
            for name, place in places.items()
        ),
    )


def load(directory: Path) -> LocalCluster | None:
    """The cluster stored in `directory`, or None.

    Raises Failure if its file cannot be read, or if it is missing and the nodes' own directories do not suffice.
    """
    path = directory / FILE_NAME
    try:
        document = json.loads(path.read_text())
    except FileNotFoundError:
        return _recovered(directory)
    except (OSError, ValueError, RecursionError) as error:
        raise Failure(f"cannot read {path}: {unreadable(error)}") from None
    try:
        if document["format"] != FORMAT:
            raise Failure(f"{path} was written by another release: format {document['format']}, not {FORMAT}")
        nodes = tuple(
            LocalNode(
                name := str(node["name"]),
                parse_address(node["address"]),
                str(node["zone"]),
                int(node["weight"]),
                str(node.get("id") or _id_in(directory / name)),
            )
            for node in document["nodes"]
        )
        if not nodes:
            raise ValueError("no nodes")
        config = document.get("config")
        settings = {str(name): str(value) for name, value in document.get("settings", {}).items()}
        return LocalCluster(
            directory.resolve(),
            nodes,
            Fsync(document["fsync"]) if "fsync" in document else None,
            Engine(document["engine"]) if "engine" in document else None,
            None if config is None else Path(config),
            settings,
        )
    except (KeyError, TypeError, ValueError, AttributeError, WrongUsage) as error:
        hint = "restore the file, or start another cluster in a new directory"
        raise Failure(f"{path} is damaged: {unreadable(error)}", hint) from None


def _recovered(directory: Path) -> LocalCluster | None:
    """The cluster of a directory without `cluster.json`, from its `node.json` files; None if no node ever ran there."""
    used = [path for path in directory.glob("n*") if (path / NODE_FILE_NAME).exists() or (path / "data").exists()]
    numbers = [int(match[1]) for path in used if (match := NODE_NAME.fullmatch(path.name))]
    if not numbers:
        return None
    homes = [directory / f"n{number}" for number in range(1, max(numbers) + 1)]
    documents = [_node_document(home) for home in homes]
    try:
        nodes = tuple(
            LocalNode(
                home.name, parse_address(node["address"]), str(node["zone"]), int(node["weight"]), str(node["id"])
            )
            for home, node in zip(homes, documents, strict=True)
        )
        fsync, engine, config = (documents[0].get(name) for name in ("fsync", "engine", "config"))
        return LocalCluster(
            directory.resolve(), nodes, fsync and Fsync(fsync), engine and Engine(engine), config and Path(config),
            is_recovered=True,
        )  # fmt: skip
    except (KeyError, TypeError, ValueError, WrongUsage) as error:
        message = (
            f"{directory / FILE_NAME} is missing, and the {NODE_FILE_NAME} of a node is damaged: {unreadable(error)}"
        )
        raise Failure(message, f"restore {directory / FILE_NAME}") from None


def _node_document(home: Path) -> dict[str, Any]:
    path = home / NODE_FILE_NAME
    try:
        document = json.loads(path.read_text())
        if not isinstance(document, dict):
            raise ValueError("it is no JSON object")
    except (OSError, ValueError, RecursionError) as error:
        raise Failure(
            f"{home.parent / FILE_NAME} is missing, and the nodes' directories do not tell all of it: cannot read {path}: "
            f"{unreadable(error)}",
            "restore one of the two files, or start another cluster in a new directory: dyn up --dir OTHER",
        ) from None
    return document


def _id_in(directory: Path) -> str:
    """The id in a node's own directory; empty if there is none."""
    try:
        return str(json.loads((directory / NODE_FILE_NAME).read_text())["id"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return ""


def _new(directory: Path, wanted: UpOptions) -> LocalCluster:
    count = wanted.nodes or NODES_DEFAULT
    base_port = wanted.base_port or DEFAULT_PORT
    if base_port + count - 1 > PORT_MAX:
        raise WrongUsage(f"{_nodes(count)} from --base-port {base_port} on would need ports above {PORT_MAX}")
    # Each node has its own zone: on one machine each node fails by itself, and shared zones would unbalance the shares.
    nodes = tuple(
        LocalNode(
            f"n{i}", Address(DEFAULT_HOST, base_port + i - 1), f"z{i}", WEIGHT_DEFAULT, os.urandom(ID_BYTES).hex()
        )
        for i in range(1, count + 1)
    )
    config = wanted.config and check_config(wanted.config)
    elsewhere = stronger_sources(("fsync", "engine"), config)
    return LocalCluster(
        directory,
        nodes,
        wanted.fsync or (None if "fsync" in elsewhere else Fsync.EVERYSEC),
        wanted.engine or (None if "engine" in elsewhere else Engine.ROCKSDB),
        config,
        change_settings({}, wanted.settings),
    )


def _nodes(count: int) -> str:
    return "1 node" if count == 1 else f"{count} nodes"
