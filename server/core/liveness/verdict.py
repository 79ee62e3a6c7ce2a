"""The verdict of the failure detector on one peer, as a pure function, and the times that it depends on."""

from __future__ import annotations

from dataclasses import dataclass

from server.core.liveness.gossip_table import PeerState


@dataclass(frozen=True, slots=True)
class LivenessLimits:
    """The times of the failure detector. Raises ValueError if they contradict each other."""

    suspect_after_ms: int = 2000  # silence towards us that makes a peer SUSPECT
    down_after_ms: int = 4000  # silence towards us that makes a peer DOWN, if there is no indirect heartbeat
    unlinked_down_after_ms: int = 2000  # the same after its link broke or was refused: it is dead rather than slow
    indirect_ms_max: int = 2000  # an indirect heartbeat keeps a peer from DOWN for this time
    probe_after_ms: int = 1000  # a peer that is silent for this time gets a probe
    probe_interval_ms: int = 250  # pause between probes, until the peer is DOWN
    gossip_interval_ms: int = 1000
    gossip_fanout: int = 3
    tick_interval_ms: int = 250  # the caller must call `tick` at least this often
    tick_late_ms: int = 500  # if a tick is later than this, the rest of the silence counts as our own lag
    small_max: int = 17  # with up to so many members each node watches all others
    watched_max: int = 8  # peers that a node of a larger cluster watches
    table_entries: int = 32  # in a message of a large cluster: ourselves, the watched, rumours, others in turn
    indirect_ms_max_unwatched: int = 10_000  # the same for peers that are not watched: news of them is rarer

    def __post_init__(self) -> None:
        if not 0 < self.probe_after_ms < self.suspect_after_ms < self.down_after_ms:
            raise ValueError("liveness needs 0 < probe_after_ms < suspect_after_ms < down_after_ms")
        if not 0 < self.tick_interval_ms < self.tick_late_ms or self.gossip_interval_ms < 1 or self.gossip_fanout < 1:
            raise ValueError("liveness needs 0 < tick_interval_ms < tick_late_ms, and gossip")
        if not 0 < self.watched_max < min(self.small_max, self.table_entries - 2):
            raise ValueError("liveness needs 0 < watched_max < small_max and room for others in a table")


def judge(
    silent_ms: int, indirect_ago_ms: int, unlinked_ago_ms: int | None, failed: bool, limits: LivenessLimits
) -> PeerState:
    """Returns the verdict on a peer. A broken link or failed request counts only if it came after the peer's last message.

    a message within `suspect_after_ms`, link open, no request failed      UP
    else: an indirect heartbeat within `indirect_ms_max`                   SUSPECT
    else: link broken for `unlinked_down_after_ms`                         DOWN
    else: silent for `down_after_ms`                                       DOWN
    else                                                                   SUSPECT
    """
    if silent_ms < limits.suspect_after_ms and unlinked_ago_ms is None and not failed:
        return PeerState.UP
    if indirect_ago_ms < limits.indirect_ms_max:
        return PeerState.SUSPECT
    dead_link = unlinked_ago_ms is not None and unlinked_ago_ms >= limits.unlinked_down_after_ms
    return PeerState.DOWN if dead_link or silent_ms >= limits.down_after_ms else PeerState.SUSPECT
