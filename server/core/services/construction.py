"""Builds the parts of a node, in the order in which they depend on each other.

Every part gets what it needs as an argument. Where two parts need each other, both get a third object that was made before
them, so that no attribute has to be set later:

    records, mending               `RecordListeners`: mending adds itself, and the records call every listener
    questions, who answers them    the table of answerers, by kind of question, which `answerers.py` fills
    relays, dispatcher             `Relays.returned`: relayed commands that came back, which the dispatcher routes again
    membership, filling,           a list of listeners, called after each change of the layout
      hint replay, shutdown
    writes, scrub, cleanup         `State.cleanup_due`
    shutdown, duplicates,          `State.refuse_clients`
      rollback, dispatcher
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

from server.core.base.clock import HybridClock
from server.core.base.clock_report import ClockReport
from server.core.base.cluster_time import ClusterTime
from server.core.base.config import Config
from server.core.base.sinks import Access
from server.core.base.state import State
from server.core.collection.collection import Collection
from server.core.collection.votes import Votes
from server.core.liveness.liveness import Liveness, LivenessLimits
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
from server.core.pubsub.notifications import Notifications, TellsMisses
from server.core.pubsub.publishing import Publishing
from server.core.pubsub.subscriptions import MatcherOf, Subscriptions
from server.core.pubsub.tracking import Tracking
from server.core.records.records import Records
from server.core.records.store import Store
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
from server.core.ring.layout import Member
from server.core.services.access import ClientAccess
from server.core.services.audit import Audit
from server.core.services.clients import ClientSessions
from server.core.services.functions import Functions
from server.core.services.latencies import Latencies
from server.core.services.numbering import DatabaseNumbering
from server.core.services.process import Process
from server.core.services.scripts import Scripts
from server.core.services.services import Services
from server.core.services.users import AccessOf, Users
from server.core.tracing.traces import Traces
from server.core.waiting.waiting import Waiting
from server.core.work.background import Background
from server.core.work.computing import Computing
from server.core.work.pace import Pace
from server.core.work.questions import Answerer, Questions
from server.core.work.timers import Timers


def build_state(
    member: Member,
    actor: bytes,
    incarnation: int,
    config: Config,
    store: Store,
    rng: random.Random,
    wall_ms: int,
    damage_error: type[Exception],
) -> State:
    """Returns the state of a node over its store. `damage_error` is the exception of the store for damaged bytes.

    The node has a config of its own, because it changes while the node runs (live_settings.py).
    """
    config = replace(config)
    records = Records(
        store,
        config.record_cache_bytes,
        damage_error,
        config.tree_leaf_bits,
        (config.patch_record_bytes_min, config.patch_rows_bytes_max),
    )
    records.open()
    liveness = Liveness(member.id, incarnation, LivenessLimits(gossip_interval_ms=config.gossip_interval_ms), rng)
    clock = HybridClock(0, config.clock_drift_ms_max)
    cluster_time = ClusterTime(member.id, config.clock_drift_ms_max, wall_ms)
    return State(member, actor, config, clock, records, liveness, rng, incarnation, cluster_time)


class FromCommands(NamedTuple):
    """What the room of commands gives: what a user may do, and before a login; how a pattern of channels is matched;
    whether a command changes nothing."""

    access_of: AccessOf
    logged_out: Access
    matcher_of: MatcherOf
    tells_misses: TellsMisses


def _build_messaging(state: State, clients: ClientSessions, matcher_of: MatcherOf) -> tuple[Publishing, Tracking]:
    subscriptions = Subscriptions(matcher_of, state.config.subscriptions_bytes_max)
    return Publishing(state, subscriptions), Tracking(state, clients.sessions, subscriptions)


def build_services(state: State, answerers: dict[bytes, Answerer], given: FromCommands) -> Services:
    """Returns all parts over `state`. `answerers` maps kinds of questions to answerers; the caller fills it later."""
    timers = Timers()
    reads, writes, relays = Reads(state, timers), Writes(state), Relays(state)
    background = Background(state, timers, Pace(state.config, (reads.quorum_times, writes.quorum_times, relays.times)))
    computing = Computing(state, background)
    questions, waiting = Questions(state, answerers), Waiting(state, relays, timers)
    clients, scripts = ClientSessions(state, waiting.blocked, timers), Scripts(state, timers)
    users = Users(state, clients, given.access_of, given.logged_out)
    publishing, tracking = _build_messaging(state, clients, given.matcher_of)
    votes, collection = Votes(state, writes.unconfirmed, reads.is_overdue), Collection(state, questions, background)
    scrub = Scrub(state, questions, background, collection)
    mending, hint_replay = Mending(state, questions, background), HintReplay(state, background, questions)
    layout_listeners: list[Callable[[], None]] = []
    membership = Membership(state, background, computing, (reads, writes), layout_listeners)
    duplicates, rollback, staging = DuplicateDetector(state), RollbackDetector(state), Staging(state, computing)
    numbering = DatabaseNumbering(state, clients, waiting.blocked, tracking, staging)
    transfers = Transfers(state, questions, background, membership)
    filling = Filling(state, questions, background, membership)
    ends = clients.close_blocked, scripts.workers.end_all
    shutdown = Shutdown(state, questions, background, waiting.deliveries, *ends)
    tasks = RepairTasks(state, questions, background, (transfers.tasks, filling.tasks))
    layout_listeners += [numbering.review, filling.review, hint_replay.review, shutdown.serve, tracking.invalidate_all]
    return Services(
        state=state, process=Process(), latencies=Latencies(state), clients=clients, clock_report=ClockReport(state),
        access=ClientAccess(state.config.protected_mode, users.default_needs_password), audit=Audit(), users=users,
        publishing=publishing, monitors=Monitors(publishing.subscriptions), tracking=tracking, reads=reads, writes=writes,
        notifications=Notifications(state, publishing, given.tells_misses), waiting=waiting, relays=relays, timers=timers,
        traces=Traces(state, reads, writes, relays), background=background, questions=questions, votes=votes,
        collection=collection, mending=mending, scrub=scrub, hint_replay=hint_replay, tasks=tasks, scripts=scripts,
        verification=Verification(state, background, scrub, mending), functions=Functions(state, scripts),
        anti_entropy=AntiEntropy(state, questions, background), jobs=RepairJobs(state, questions, background),
        rebuild=Rebuild(state, questions, background, mending, tasks, rollback, writes.holds_only_copy),
        membership=membership, authentication=Authentication(state), duplicates=duplicates, rollback=rollback,
        transfers=transfers, filling=filling, shutdown=shutdown, staging=staging, numbering=numbering,
        addresses=Addresses(state, membership, duplicates, rollback), checkpoints=Checkpoints(state, background, writes),
        cleanup=Cleanup(state, questions, background, writes.unconfirmed, scrub.walk),
        full_repair=FullRepair(state, questions, background, membership),
        change_coordinator=ChangeCoordinator(state, questions, background, membership), computing=computing,
    )  # fmt: skip
