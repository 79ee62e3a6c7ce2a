"""Which build of the code a node runs: the compiled one if it is current, else the sources.

`setup.py` compiles the hot modules (mypyc) into `server/compiled`. This is a tree of its own beside the sources, so that
tests in this process import, patch and subclass the sources. Only the process of a node uses the compiled modules: it
calls `use_compiled` before it imports any of them. One library holds all of them. mypyc wants a file beside it for each
module, which does no more than call the library; a finder does that here, so that there are not 138 more files to compile,
to link and to load. The build records a fingerprint of its sources, and is used only while
the present sources have the same fingerprint. So outdated code never runs, and without a compiler nodes run the sources.
INFO says which it is (`dyn_build`).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from hashlib import sha256
from importlib import import_module
from importlib.abc import Loader
from importlib.machinery import ModuleSpec
from pathlib import Path
from sysconfig import get_config_var
from types import ModuleType

ROOT = Path(__file__).parent.parent
COMPILED = Path("server/compiled")  # under the root of a checkout, or of site-packages
NATIVE = Path("protocol/c")  # the module in C, `dyn_native` (protocol/native.py)
# Only modules that requests pass through: each further one makes the build longer and no request faster.
HOT = (
    *(f"protocol/{name}.py" for name in (
        "databases", "encoding", "frames", "leftovers", "requests", "resp", "seals", "slots", "tokens",
    )),
    *(f"server/core/{name}.py" for name in (
        "chains", "dispatch", "incoming", "node", "outbox", "peer_messages", "retries", "storing",
    )),
    *(f"server/core/base/{name}.py" for name in (
        "clock", "errors", "histogram", "holds", "lanes", "longest", "origins", "pauses", "quorum", "routing", "sinks",
        "state", "statistics",
    )),
    *(f"server/core/commands/{name}.py" for name in (
        "conditional_sets", "databases", "draft_writes", "execution", "hot_call", "key_patterns", "permissions",
        "permits", "shared_drafts", "slices", "spec", "steps", "strings", "transactions/kept_drafts",
        "transactions/queued_run", "transactions/snapshot", "transactions/unrelayed", "typed",
    )),
    *(f"server/core/messages/{name}.py" for name in (
        "asking", "comparison", "exchange_questions", "kinds", "questions", "reader", "record_questions",
    )),
    *(f"server/core/records/{name}.py" for name in (
        "cache", "common_case", "contexts", "deaths", "deferred", "draft", "draft_bytes", "entries", "entry_structure",
        "folds", "joins", "kinds", "numbers", "paging", "patch_rows", "patches", "pending", "positions", "prepared",
        "records", "siblings", "storage_keys", "structure", "trees", "versions", "views",
    )),
    *(f"server/core/requests/{name}.py" for name in (
        "digests", "draft_table", "groups", "hedging", "key_reads", "page_answers", "patching",
        "read_groups", "reads", "relay_ages", "relay_rows", "relay_sinks", "relays", "replica", "silences", "write_groups",
        "write_targets", "writes",
    )),
    *(f"server/core/services/{name}.py" for name in ("client_pause", "latencies", "services")),
    "server/core/collection/late.py",
    *(f"server/core/repair/{name}.py" for name in ("differences", "exchange", "exchange_answers")),
    "server/core/work/timers.py",
    *(f"server/shell/{name}.py" for name in (
        "admission", "client", "clients", "connections", "context", "durability", "flow", "inbound", "node_run",
        "sealed", "timing", "turn", "turn_sender",
    )),
    *(f"server/storage/{name}.py" for name in ("chunked", "rocksdb")),
)  # fmt: skip
# Modules that run once a node, connection or tick, and hardly ever for a request. They are compiled because hot modules
# use their classes.
RARE = (
    *(f"server/core/base/{name}.py" for name in ("config", "hints", "unexpected")),
    *(f"server/core/liveness/{name}.py" for name in ("gossip_table", "liveness", "verdict")),
    *(f"server/core/work/{name}.py" for name in ("background", "pace")),
    *(f"server/shell/{name}.py" for name in ("links", "memory", "outbound", "peers", "ticks")),
    "server/core/collection/votes.py",
    "server/core/membership/shutdown.py",
    "server/core/messages/announcements.py",
    "server/core/services/clients.py",
    "server/core/tracing/traces.py",
)
# The modules that gcc optimizes by -O2: those with 0.2 % of the instructions of a SET or GET or more, in some phase of
# `make bench-instructions`, but for three large ones with 0.35 % at most; and five small ones with less. All others get
# -Og, which takes gcc less than half as long. By -Og for all SETs and GETs take 4 to 7 % more instructions, by -O1 for
# these they take 1 % more.
HOTTEST = (
    *(f"protocol/{name}.py" for name in ("frames", "requests", "resp", "seals", "slots")),
    *(f"server/core/base/{name}.py" for name in ("clock", "histogram", "lanes", "sinks", "state")),
    *(f"server/core/{name}.py" for name in ("chains", "dispatch", "incoming", "node", "outbox")),
    *(f"server/core/commands/{name}.py" for name in (
        "conditional_sets", "databases", "execution", "hot_call", "spec", "steps", "strings",
    )),
    *(f"server/core/messages/{name}.py" for name in ("comparison", "reader")),
    *(f"server/core/records/{name}.py" for name in ("common_case", "records", "storage_keys", "trees", "versions")),
    *(f"server/core/requests/{name}.py" for name in (
        "read_groups", "reads", "relay_rows", "relays", "write_groups", "writes",
    )),
    "server/core/services/latencies.py",
    *(f"server/shell/{name}.py" for name in ("admission", "connections", "context", "timing", "turn_sender")),
    *(f"server/storage/{name}.py" for name in ("chunked", "rocksdb")),  # of which that counts nothing
)  # fmt: skip


def compiled_sources() -> list[str]:
    """The paths of the modules to compile, relative to the root."""
    return sorted(HOT + RARE)


def compiled_names() -> list[str]:
    """Their names."""
    return [source.removesuffix(".py").replace("/", ".") for source in compiled_sources()]


def initializer_name(name: str) -> str:
    """What the library has for a module: mypyc's name for the capsule with the function that initializes it."""
    return f"init_{name.replace('.', '___')}"


def fingerprint() -> str:
    """A digest of all sources and of the kind of Python. All: compiled code may hold constants of modules that are not."""
    digest = sha256(str(get_config_var("EXT_SUFFIX")).encode())
    sources = [*ROOT.glob("protocol/**/*.py"), *ROOT.glob("server/**/*.py"), *(ROOT / NATIVE).glob("*.[ch]")]
    for path in sorted(sources):
        content = path.read_bytes()
        digest.update(b"%s %d " % (str(path.relative_to(ROOT)).encode(), len(content)))
        digest.update(content)
    return digest.hexdigest()


def is_current(place: Path) -> bool:
    """Whether the build in `place` was made from the present sources."""
    try:
        return (place / "fingerprint").read_text() == fingerprint()
    except FileNotFoundError:
        return False


class CompiledModules(Loader):
    """Finds the compiled modules for `import`, and initializes them."""

    def __init__(self, place: Path) -> None:
        """`place`: the folder of the library, which is in sys.path."""
        self._place = place
        self._names = frozenset(compiled_names())

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """How to load a module; None if it is not compiled."""
        return ModuleSpec(name, self, origin=str(self._place)) if name in self._names else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """The module, after its code has run: mypyc has no step between."""
        initializer = getattr(import_module("dyn__mypyc"), initializer_name(spec.name))
        module: ModuleType = import_module("dyn_native").initialize_module(initializer)
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Nothing is left to do."""


def use_compiled() -> None:
    """Makes this process import the compiled modules from now on, if they are current."""
    place = ROOT / COMPILED
    if is_current(place):
        sys.path.append(str(place))
        sys.meta_path.insert(0, CompiledModules(place))
