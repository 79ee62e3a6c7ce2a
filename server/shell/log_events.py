"""The stable name of each line of the log, by area: what programs look for, while the sentence may be improved.

Theory. A call of the log has a constant format, which tells calls apart (logs.py). `EVENTS` gives each format its area,
its event, and the names of its arguments in order. So log lines as JSON and journal entries have fields, and levels are
set by area, without a word more at the calls. A test reads all calls of the log and looks each one up here.
"""

from __future__ import annotations

import logging
from typing import NamedTuple

# area -> format of the call -> the event and the names of its arguments
EVENTS: dict[str, dict[str, str]] = {
    "node": {
        "node %s (%s) serves on %s, engine %s, fsync %s": "node_serves name id address engine fsync",
        "node %s has stopped": "node_stopped name",
        "SIGHUP: settings, certificates, secrets and keys are read again": "files_read_again",
        "node in %s does not start: %s": "node_start_failed directory error",
        "the node in %s stops after an unexpected exception": "node_crashed directory",
        "the node stops after an unexpected exception: %s": "node_crashed error",
        "the cause of the crash could not be stored: %s": "crash_cause_not_stored error",
        "the shutdown did not finish in time: the node stops without waiting for its last requests": "shutdown_late",
        "internal error %s in %s": "internal_error word doing",
        "can %s again": "housekeeping_works what",
        "cannot %s, and go on without: %s": "housekeeping_failed what error",
        "the event loop was late by %d ms: SLOWLOG GET and LATENCY DOCTOR show what takes long": "loop_late late_ms",
        "this node serves %d clients at a time, not clients_max=%d: it may open %d files (ulimit -Hn), of which %d are "
        "kept for storage and %d for peers and the process itself":
            "few_files clients clients_max files storage_files other_files",
        "%d lines were left out of this log that are like this one: %s": "lines_left_out count site",
    },
    "settings": {
        "settings that have changed in %s are in force: %s": "settings_changed file settings",
        "settings that have changed in %s and need a restart of the node: %s": "settings_need_restart file settings",
        "environment variable %s is an address, which %s cannot be: it is ignored, as Kubernetes makes such names":
            "variable_ignored variable setting",
        "environment variable %s is no setting and is ignored: is it meant to be %s?": "variable_unknown variable near",
        "%s is %s by %s: %s of an earlier start counts no more": "setting_overruled setting value place former",
        "the settings stay as they were: %s": "settings_file_wrong error",
        "%s is given and is ignored: it is no setting any more, and %s": "setting_retired setting reason",
        "%s is in %s now, but at the next start %s counts, if it is still given": "setting_weaker setting file place",
    },
    "disk": {
        "no space left to change %s: it stays as it is": "identity_not_written file",
        "no space left in %s: the reserve is removed": "disk_full directory",
        "%d MiB are free in %s: %s": "disk_room free_mib directory says",
        "the space of deleted keys could not be freed: %s": "space_not_freed error",
        "%d MiB are free in %s: the node restarts in this process to take writes again; until then its port is closed": (
            "disk_free_restart free_mib directory"
        ),
        "no reserve of disk space can be allocated: %s": "no_reserve error",
        "the engine waits for room: it is opened anew": "engine_reopened",
        "the engine: %s": "engine_trouble error",
        "storage failed, the node stops: %s": "storage_failed error",
        "no space left: the node restarts in this process and serves reads only: %s": "disk_full_reads_only error",
        "the store is damaged: the node restarts in this process, without compactions: %s": "store_damaged error",
        "%s: the store is now %s, and the other owners fill an empty one; delete it once this node is whole":
            "store_set_aside reason store",
        "the store is now %s: delete it once the node is whole again": "store_rebuilt store",
        "%s; the reserve is given away": "reserve_given_away error",
        "all that was written is in the engine's log: %s": "engine_not_flushed error",
        "the last writes are in the log, and perhaps not on the disk yet: %s": "last_writes_not_synced error",
        "the next start will read all records: %s": "trees_not_kept error",
        "cannot write %s, so dyn up cannot ask this node if it needs a password: %s": "operator_file_failed file error",
    },
    "peers": {
        "node %s is %s%s%s": "peer_state peer state reason after",
        "node %s takes no writes: its disk is full": "peer_disk_full peer",
        "node %s takes writes again": "peer_disk_free peer",
        "node %s at %s %s": "peer_refuses peer address error",
        "node %s at %s does not fetch its messages: cutting the link": "peer_stalls peer address",
        "node %s (%s) is cut: %d MiB of an incomplete message are held, and more than peer_input_bytes_max (%d MiB) for "
        "all nodes together": "peer_cut peer address held_mib max_mib",
        "damaged message from node %s (%s): %s": "peer_message_damaged peer address error",
        "refused a node's connection from %s: %s": "peer_refused address error",
        "refused: %d connections %s; the last one came from %s": "peers_refused count why address",
        "seed %s: %s": "seed_asked seed outcome",
        "a process at %s has this node's id and is refused by other nodes: it was started on a copy of this node's "
        "directory: stop it and remove the copy": "duplicate_node address",
    },
    "cluster": {
        "layout of epoch %d (%s, revision %d) with %s": "layout epoch phase revision nodes",
        "%s has staged that node %s joins: `dyn cluster plan` shows it, `dyn cluster commit` makes it a member":
            "join_staged seed name",
        "cannot join by %s: %s; trying again": "join_failed seed error",
        "cannot join by %s: the directory of node %s belongs to cluster %s, and %s is in cluster %s: start the node with "
        "an empty directory": "join_refused seed name cluster asked other_cluster",
        "staged for the next layout: %s": "change_staged change",
        "no longer staged, since it was %s: %s": "change_unstaged outcome changes",
        "node %s is a member now, by the layout of epoch %d": "member_joined name epoch",
        "node %s is no member any more, by the layout of epoch %d": "member_left name epoch",
        "this node is no member of cluster %s any more, by its layout of epoch %d, and serves nobody: stop it%s":
            "node_left cluster epoch still_held",
    },
    "clocks": {
        "this node's clock is %s those of most members: set it (NTP); keys expire by theirs meanwhile": "clock_off error",
        "this node's clock agrees with those of most members": "clock_agrees",
        "this node's clock is %d s ahead of that of node %s, which does not follow it: set the one that is wrong (NTP), "
        "and start its node again": "clock_not_followed ahead_s peer",
        "no other node complains of this node's clock any more": "clock_followed",
    },
    "hints": {
        "this node keeps hints for node %s, which has not confirmed its writes": "hints_begun owner",
        "no hints for node %s are left after %s; there were up to %d": "hints_ended owner after most",
        "there is no room for more hints for node %s: `dyn repair` brings it what it has missed": "hints_refused owner",
    },
    "repair": {
        "task %s has begun: %d partitions": "task_begun task partitions",
        "task %s is %s: %d keys compared, %d repaired%s": "task_ended task state keys_compared keys_repaired error",
        "anti-entropy has repaired %d keys in %d comparisons with other owners": "keys_repaired keys comparisons",
        "this node has none of the data that it owns: it is being filled by the other owners": "filling_begun",
        "this node is whole: %d keys, %d fetched from the other owners": "filling_ended keys fetched",
        "damaged records: met %d times, %d mended, %d lost; %d wait to be mended":
            "records_damaged met mended lost waiting",
    },
    "clients": {
        "client %s is refused, because this node is in protected mode and has no password": "client_unprotected address",
        "client %s is cut: %s": "client_cut address reason",
        "connection from %s is refused: %s": "connection_refused address error",
        "possible attack: %d connections spoke HTTP (POST or Host:) and were closed, the last one from %s; somebody may "
        "try to make a browser send commands to this node": "http_refused count address",
        "a script: %s": "script_says line",
    },
    "security": {
        "logins refused: %d, of user %s from %s": "logins_refused count user host",
        "logins refused: %d more, of other users or from other hosts": "logins_refused_more count",
        "%s": "users line",
        "command of %s: %s": "operator_command who command",
        "command of %s was refused: %s: %s": "operator_command_refused who command refusal",
        "%d more commands of operators came in one moment and are not in this log": "operator_commands_left_out count",
        "this node listens on %s, and not for this machine alone: %s": "exposed address found",
        "what other machines can do at %s is bounded now: nothing to warn of": "not_exposed address",
        "certificate read again: new connections use it; it expires in %d days": "certificate_read days_left",
        "the key in %s can be read by others than its owner: chmod 600": "key_readable file",
        "the changed certificate cannot be used, the former one stays in use: %s": "certificate_wrong error",
        "TLS handshake with %s failed: %s": "tls_handshake_failed address error",
        "nodes prove the secret of the cluster to each other: this one %s": "secret_in_use secrets",
        "nodes are not authenticated: this node has no secret, so whoever reaches its port may act as a node; `dyn secret "
        "make FILE` makes one for all nodes of the cluster, which get it by --secret-file FILE or as DIR/secret":
            "no_secret",
        "new secrets: %s": "secrets_changed secrets",
        "%s; this node keeps the secrets that it has": "secrets_wrong error",
        "%s is gone; this node keeps the secrets that it has": "secrets_gone file",
        "values are being encrypted with key %s; some are in clear or under another key": "encrypting key",
        "all values are encrypted with key %s: no other key of the file is needed here": "encrypted key",
        "new values are encrypted with key %s from now on": "encryption_key_changed key",
        "%s; this node keeps the keys that it has": "encryption_keys_wrong error",
        "values cannot be encrypted now, this goes on later: %s": "encryption_paused error",
    },
}  # fmt: skip
OTHER = "other"  # the event of a line that is not from a call above: one of a library


class Event(NamedTuple):
    """What a call of the log is about."""

    area: str
    name: str
    fields: tuple[str, ...]


_BY_FORMAT = {
    text: Event(area, *(lambda words: (words[0], tuple(words[1:])))(names.split()))
    for area, events in EVENTS.items()
    for text, names in events.items()
}


def event_of(record: logging.LogRecord) -> Event:
    """The event of a record, whose `msg` is still the format of the call."""
    return _BY_FORMAT.get(str(record.msg), Event("node", OTHER, ()))
