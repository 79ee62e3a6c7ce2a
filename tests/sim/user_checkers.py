"""What must hold of users and secrets after a storm, judged from the history, the disks, and the nodes' answers.

a document goes back    a disk has a user in an earlier version than before
a change is lost        a version of a user was on some disk, and at the end a disk has an earlier one, or none
said, not stored        an officer was answered, and his node's disk did not have the change
runs after a second     a process that a deletion is bound to (user_changes.py) runs a command of the user
differs                 a node lets in a user by another password than the last one, or a deleted one
believed                a disk of the cluster has had what only the intruder has said (secret_files.py)
"""

from __future__ import annotations

from server.core.messages.users import document_in
from server.core.records.records import storage_key_of
from server.core.users.document import Document, UserEntry
from server.core.users.rules import hashed
from tests.sim.clients import Operation
from tests.sim.disk import Cause
from tests.sim.host import Host
from tests.sim.secret_files import MARK
from tests.sim.user_changes import Change, Deletion, Officer, entry_on
from tests.sim.world import World

_EMPTY = Document()


def check_documents(hosts: list[Host]) -> list[str]:
    """No disk goes back, and none lacks at the end what any of them has had."""
    faults: list[str] = []
    newest: dict[bytes, UserEntry] = {}
    for host in hosts:
        before = _EMPTY
        for _, data, cause in host.disk.users:
            document = document_in(data) if data is not None else _EMPTY
            for name, entry in before.entries.items() if cause is Cause.COMMIT else ():
                present = document.entries.get(name)
                if present is None or present.version < entry.version:
                    faults.append(f"the users of {host.id} go back: {name!r} from {entry} to {present}")
            for name, entry in document.entries.items():
                if name not in newest or entry.version > newest[name].version:
                    newest[name] = entry
            before = document
    for name, entry in newest.items():
        faults += [
            f"a change of a user is lost: {host.id} has {present} of {name!r}, not {entry}"
            for host in hosts
            if (present := entry_on(host, name)) != entry
        ]
    return faults


def check_answers(world: World, changes: list[Change]) -> list[str]:
    """What an officer was answered, his node had stored before: the change, or a later version of that user."""
    faults = []
    for change in changes:
        operation = change.operation
        if not operation.answered or operation.error or operation.reply == 0:
            continue
        disk = world.host(operation.host).disk
        documents = [(step, document_in(data)) for step, data, _ in disk.users if data is not None]
        before = [each.entries.get(change.name) for step, each in documents if step < operation.invoked_step]
        steps = range(operation.invoked_step, operation.answered_step + 1)
        stored = [each.entries.get(change.name) for step, each in documents if step in steps]
        if not any(_stands_for(change, entry, before[-1] if before else None) for entry in stored):
            faults.append(f"said of a user, not stored: {operation}")
    return faults


def _stands_for(change: Change, entry: UserEntry | None, before: UserEntry | None) -> bool:
    """Whether a stored entry is the change, or a later one of another node.

    The later one may have come in the same turn, by a clock that is ahead of this node's; then one batch stores it alone.
    """
    if entry is None:
        return False
    is_change = _password(entry) == (None if change.password is None else hashed(change.password))
    is_of_another = entry.node != change.operation.host and (before is None or entry.version > before.version)
    return is_change or is_of_another


def _password(entry: UserEntry) -> bytes | None:
    return entry.user.passwords[0] if entry.user is not None and entry.user.passwords else None


def check_deleted(operations: list[Operation], deletions: list[Deletion]) -> list[str]:
    """Nobody runs a command as a user whose deletion is bound to the process."""
    guests = [each for each in operations if each.client.startswith("guest ")]
    logins = {(each.client, each.connection) for each in guests if each.name == "AUTH" and each.reply == b"OK"}
    faults = []
    for deletion in deletions:
        processes = [(host.id, life) for host, life in deletion.processes] if deletion.is_bound else []
        for each in guests if processes else ():
            is_late = deletion.from_ms <= each.invoked_ms and each.answered and each.answered_ms < deletion.until_ms
            is_of_user = each.client.endswith(f" of {deletion.name.decode()}") and (each.host, each.life) in processes
            if is_late and is_of_user and not each.error and (each.client, each.connection) in logins:
                faults.append(f"deleted, and runs commands after a second: {each}")
    return faults


def check_in_force(world: World, officers: list[Officer]) -> list[str]:
    """Each node lets in whom all disks have, by the last password, and nobody else."""
    faults = []
    for officer in officers:
        entry = entry_on(world.hosts[0], officer.name)
        for host in world.hosts:
            for change in officer.changes[-3:]:
                if change.password is None:
                    continue
                login = world.ask(host, "AUTH", officer.name, change.password)
                is_right = entry is not None and _password(entry) == hashed(change.password)
                if (not login.error) != is_right:
                    faults.append(f"{host.id} differs about a user: {login}, but {entry}")
    return faults


def check_intruder(world: World) -> list[str]:
    """Nothing that only the intruder has said has ever been on a disk of the cluster."""
    key = storage_key_of(MARK)
    faults = [
        f"an intruder was believed by {each.node}: a key" for each in world.log if each.key == key and each.record
    ]
    for host in world.hosts:
        documents = [data for _, data, _ in host.disk.users if data is not None]
        if any(MARK in document_in(data).entries for data in documents):
            faults.append(f"an intruder was believed by {host.id}: a user")
    return faults
