"""How full each queue and buffer is, beside its limit (promise P10): gauges `dyn_X` and `dyn_X_max`, for Prometheus."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from prometheus_client.core import GaugeMetricFamily, Metric

from server.core.services.services import Services
from server.shell.clients import Clients
from server.shell.peers import Peers


class Depth(NamedTuple):
    """How much a queue holds, and may hold."""

    name: str
    words: str
    value: int
    limit: int


def depths(services: Services, clients: Clients) -> list[Depth]:
    """All queues and buffers of a node, but for those to each peer."""
    state, config, inbound = services.state, services.state.config, clients.peers.inbound
    return [
        Depth("clients", "Connected clients.", len(services.clients.sessions), config.clients_max),
        Depth("client_buffers_bytes", "Requests and replies held for clients.", clients.memory.total_bytes(),
              config.client_buffers_bytes_max),
        Depth("requests_in_flight", "Requests in flight, parts included.", state.in_flight,
              config.requests_in_flight_max),
        Depth("values_in_flight_bytes", "Values of clients that send in bulk, on this node.", clients.flow.held_bytes,
              config.values_in_flight_bytes_max),
        Depth("waiting_rows", "Clients of all nodes that wait for keys of this one.", services.waiting.rows.count,
              config.waiting_rows_max),
        Depth("subscriptions_bytes", "Names of subscriptions.", services.subscriptions.names_bytes,
              config.subscriptions_bytes_max),
        Depth("tracked_keys", "Keys that clients cache.", len(services.tracking.keys), config.tracked_keys_max),
        Depth("scripts_bytes", "Texts of scripts.", services.scripts.size_bytes, config.scripts_bytes_max),
        Depth("orders_bytes", "Kept orders of collections.", state.orders.size_bytes(), config.orders_bytes_max),
        Depth("record_cache_bytes", "Cached records.", state.records.cache.size_bytes, config.record_cache_bytes),
        Depth("deferred_patches_bytes", "Records whose patches are not applied yet.", state.records.deferred.memory_bytes,
              state.records.deferred.bytes_max()),
        Depth("patch_rows_bytes", "Changes stored apart from their records.", state.records.patch_rows_bytes(),
              config.patch_rows_bytes_max),
        Depth("records_damaged", "Damaged records that wait to be mended.", len(services.mending),
              config.damaged_records_max),
        Depth("collect_queue", "Dead records that wait for collection.", len(services.collection.candidates),
              config.collect_queue_max),
        Depth("unconfirmed_bytes", "Writes that some owner has not confirmed.", services.writes.unconfirmed_bytes,
              config.unconfirmed_bytes_max),
        Depth("peers", "Connections of other nodes.", len(inbound.connections), config.peers_max),
        Depth("peer_input_bytes", "Incomplete messages of other nodes.", inbound.held_bytes, config.peer_input_bytes_max),
        Depth("handshakes", "Connections within a handshake of nodes.", len(clients.node_handshakes),
              config.handshakes_max),
    ]  # fmt: skip


def limit_families(services: Services, clients: Clients) -> Iterator[Metric]:
    """The families of all queues."""
    for depth in depths(services, clients):
        yield GaugeMetricFamily(f"dyn_{depth.name}", depth.words, depth.value)
        yield GaugeMetricFamily(f"dyn_{depth.name}_max", "The limit of it.", depth.limit)
    yield from _peers(services, clients.peers)


def _peers(services: Services, peers: Peers) -> Iterator[Metric]:
    unsent = GaugeMetricFamily("dyn_peer_unsent_bytes", "Bytes that a peer has not taken.", labels=["peer"])
    for peer, link in peers.links.items():
        unsent.add_metric([services.state.layout_name(peer)], link.unsent_bytes + link.outbound.backlog_bytes)
    yield unsent
    yield GaugeMetricFamily(
        "dyn_peer_unsent_bytes_max", "The limit of it.", services.state.config.peer_buffer_bytes_max
    )
