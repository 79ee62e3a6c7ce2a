"""The services of a node: what commands, operators' documents and answers to other nodes may use.

A command gets this object as its first argument. The hot ones read `services.state`, `services.reads`, `services.writes`
and `services.relays`, each one attribute of a compiled class. Who builds it: construction.py.
"""

from __future__ import annotations

from dataclasses import dataclass

from protocol.slots import key_slot
from server.core.base.clock_report import ClockReport
from server.core.base.histogram import Histogram
from server.core.base.routing import Route
from server.core.base.sinks import Sink
from server.core.base.state import State
from server.core.collection.collection import Collection
from server.core.collection.votes import Votes
from server.core.membership.addresses import Addresses
from server.core.membership.authentication import Authentication
from server.core.membership.change_coordinator import ChangeCoordinator
from server.core.membership.cleanup import Cleanup
from server.core.membership.duplicates import DuplicateDetector
from server.core.membership.filling import Filling
from server.core.membership.full_repair import FullRepair
from server.core.membership.membership import Membership
from server.core.membership.rebuild import Rebuild
from server.core.membership.rollback import RollbackDetector
from server.core.membership.shutdown import Shutdown
from server.core.membership.staging import Staging
from server.core.membership.transfers import Transfers
from server.core.pubsub.monitors import Monitors
from server.core.pubsub.notifications import Notifications
from server.core.pubsub.publishing import Publishing
from server.core.pubsub.subscriptions import Subscriptions
from server.core.pubsub.tracking import Tracking
from server.core.repair.anti_entropy import AntiEntropy
from server.core.repair.hint_replay import HintReplay
from server.core.repair.jobs import RepairJobs
from server.core.repair.mending import Mending
from server.core.repair.scrub import Scrub
from server.core.repair.tasks import RepairTasks
from server.core.repair.verification import Verification
from server.core.requests.checkpoints import Checkpoints
from server.core.requests.reads import Reads
from server.core.requests.relays import Relays
from server.core.requests.writes import Writes
from server.core.services.access import ClientAccess
from server.core.services.audit import Audit
from server.core.services.clients import ClientSessions
from server.core.services.functions import Functions
from server.core.services.latencies import Latencies
from server.core.services.numbering import DatabaseNumbering
from server.core.services.process import Process
from server.core.services.scripts import Scripts
from server.core.services.users import Users
from server.core.tracing.traces import Traces
from server.core.waiting.waiting import Waiting
from server.core.work.background import Background
from server.core.work.computing import Computing
from server.core.work.procedures import Procedure, Steps
from server.core.work.questions import Questions
from server.core.work.timers import Timers


@dataclass(eq=False)
class Services:
    """The parts of one node, one attribute each."""

    state: State
    process: Process
    latencies: Latencies
    clients: ClientSessions
    access: ClientAccess
    audit: Audit
    users: Users
    scripts: Scripts
    functions: Functions
    numbering: DatabaseNumbering
    clock_report: ClockReport
    publishing: Publishing
    monitors: Monitors
    tracking: Tracking
    notifications: Notifications
    # Requests of clients
    reads: Reads
    writes: Writes
    checkpoints: Checkpoints
    relays: Relays
    waiting: Waiting
    traces: Traces
    # Work that clients do not wait for
    timers: Timers
    background: Background
    computing: Computing
    questions: Questions
    # Old data: tombstones, damage, differences between owners
    votes: Votes
    collection: Collection
    mending: Mending
    scrub: Scrub
    verification: Verification
    anti_entropy: AntiEntropy
    hint_replay: HintReplay
    jobs: RepairJobs
    tasks: RepairTasks
    rebuild: Rebuild
    # Members and layouts
    membership: Membership
    authentication: Authentication
    staging: Staging
    duplicates: DuplicateDetector
    rollback: RollbackDetector
    addresses: Addresses
    transfers: Transfers
    filling: Filling
    full_repair: FullRepair
    cleanup: Cleanup
    change_coordinator: ChangeCoordinator
    shutdown: Shutdown

    @property
    def subscriptions(self) -> Subscriptions:
        """The subscriptions of this node's clients."""
        return self.publishing.subscriptions

    def phases(self) -> dict[str, Histogram]:
        """How long the parts of the work took: until a quorum or another coordinator answered, a commit, a sync."""
        return {
            "read_quorum": self.reads.quorum_times,
            "write_quorum": self.writes.quorum_times,
            "relay": self.relays.times,
            "commit": self.latencies.commit,
            "sync": self.latencies.sync,
        }

    def route(self, key: bytes, deletes: bool = False) -> Route:
        """HOT. Returns the present route of requests for `key`; if `deletes`, of those that delete it."""
        state = self.state
        return (state.deletion_routes if deletes else state.routes)[key_slot(key) >> state.route_shift]

    def run_steps(self, steps: Steps, sink: Sink, number: int, is_counted: bool = True) -> None:
        """Runs a command of several steps for `sink`. If it was relayed and became stale (relays.py), it ends early.
        `is_counted`: a node that stops waits for it."""
        stale = self.relays.stale_check(sink)
        Procedure(self.state, "command", steps, sink, number, stale, is_counted=is_counted).start()
