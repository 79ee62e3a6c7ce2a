"""Where replies go (promise P5): each request gets exactly one reply, and replies leave in command order.

Theory. A command begins with a sink and a number. When its reply is known, at once or some turns later, `answer` gives
it to the sink under that number. A `Session` is the sink of one client connection. It keeps one slot for each command:
the slot holds the arguments while the command is in flight, and the reply afterwards. So an assertion catches a second
reply, and replies leave in command order, whatever the order in which they came. (commands/slices.py has the sink for
the parts of a command over several keys; requests/relays.py has the sink for commands that another node has relayed.)

A client that pipelines expects its commands to take effect in order: commands of the same key wait for each other in
its lane (lanes.py). A command that must run alone on its connection waits in the session's backlog, and all commands
behind it wait there, too.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Final

from mypy_extensions import mypyc_attr

from protocol.databases import Numbering
from protocol.resp import LargeReply, Reply
from server.core.base.lanes import Lanes
from server.core.base.origins import Origin
from server.core.base.statistics import Statistics
from server.core.base.subscriber import Subscriber, Tracker
from server.core.base.transaction import Transaction, Watch

Flushed = bytes | list[bytes | memoryview]  # replies in order: one buffer, or several, to avoid copying large values


_ERROR: Final = 0x2D  # how an error begins: -
_SUPERSEDED: Final = [b""]  # the arguments in the slot of a command whose place another one has taken


@mypyc_attr(allow_interpreted_subclasses=True)
class Sink:
    """Takes the replies of commands, and has the settings that these run with.

    A base class and no protocol: compiled code reads an attribute of a class at once, and one of a protocol by its name.
    Modules that are not compiled may derive from it.
    """

    def __init__(self, like: Sink | None = None) -> None:
        """With the settings of the sink `like`, or those of a new connection."""
        self.resp3: bool = like is not None and like.resp3
        self.relayed: bool = (
            like is not None and like.relayed
        )  # another node sent the command to us: never relay it again
        self.read_quorum: int = 0 if like is None else like.read_quorum  # 0: the layout's R
        self.write_quorum: int = 0 if like is None else like.write_quorum  # 0: the layout's W
        self.space: int = 0 if like is None else like.space  # the one of its database (protocol/databases.py)
        # The numbering of databases that its transaction or script has begun with; None: the present one.
        self.kept_numbering: Numbering | None = None if like is None else like.kept_numbering
        # Its commands are part of a transaction or a script: none of them waits for what another client will do.
        self.denies_blocking: bool = like is not None and like.denies_blocking
        self.counts_lookups = True  # the keys that are read for it count in keyspace_hits and keyspace_misses
        # Who is told of the changes that its commands make (base/origins.py); None: nobody wants to know.
        self.origin: Origin | None = None if like is None else like.origin

    def answer(self, number: int, reply: Reply) -> None:
        """Answers command `number` with an encoded reply."""
        raise NotImplementedError

    def command(self, number: int) -> list[bytes] | None:
        """Returns the arguments of the client's command that `number` is, or is a part of; None if that is not known."""
        return None

    def repeats(self, args: list[bytes]) -> bool:
        """Whether this command of it is run again if its coordinator is lost, though it may then be done twice."""
        return False


@mypyc_attr(allow_interpreted_subclasses=True)
class Access:
    """What the user of a session may do. A session whose user may do everything has none. commands/permissions.py computes
    it from the user's rules."""

    def usual_commands(self) -> dict[bytes, Any] | None:
        """HOT. The user's own table of commands: name -> CommandSpec of each command that is permitted for sure if the call
        has the usual form and its key matches the spec's `allowed_keys`; None stands for all commands with any key."""
        raise NotImplementedError

    def refusal(self, session: Session, args: list[bytes]) -> bytes | None:
        """The error for a call of a known command with the right number of arguments; None if it is permitted."""
        raise NotImplementedError

    def allows(self, session: Session, args: list[bytes]) -> bool:
        """Whether such a call is permitted. Unlike `refusal` it notes nothing: the user only asks."""
        return self.refusal(session, args) is None

    def may_subscribe(self, name: bytes, is_pattern: bool) -> bool:
        """Whether a channel, or a pattern of channels, may be subscribed to."""
        raise NotImplementedError


class SharedReply(Sink):
    """The sink of a command of a session that also stands for earlier ones (lanes.py): all of them get its reply."""

    def __init__(self, session: Session, earlier: list[int]) -> None:
        super().__init__(session)
        self._session = session
        self._earlier = earlier

    def answer(self, number: int, reply: Reply) -> None:
        """HOT. The reply of command `number`, the last one."""
        for earlier in self._earlier:
            self._session.answer(earlier, reply)
        self._session.answer(number, reply)


class Session(Sink):
    """One client's connection: its settings, and its commands and replies in order."""

    blocked = 0  # the number of its blocking command that is under way (waiting/blocked.py); 0: there is none
    is_waiting = False  # that command has found nothing so far
    has_left = False  # the connection has ended
    in_flight = 0
    database = 0  # its number; `space` is the space that has it
    is_costly = False  # commands in flight may be other ones than plain GETs and SETs
    last_command = ""
    is_broken = False  # close the connection now, see `break_off`
    is_tls = False
    gave_password = False
    no_evict = False
    no_touch = False
    is_monitor = False  # it has sent MONITOR
    runs_script = False  # it stands for a script, and has no connection

    def __init__(
        self,
        session_id: int,
        address: str,
        local_address: str,
        now_ms: int,
        ready: list[Session],
        statistics: Statistics,
    ) -> None:
        super().__init__()
        self.id = session_id
        self.address = address
        self.local_address = local_address
        self.created_ms = self.active_ms = now_ms
        self.user = b"default"
        self.user_born = 0  # the version of the document of users under which the user was created
        self.has_logged_in = True  # or need not
        self._begin_rights()
        self.name = b""
        self.library_name = self.library_version = b""
        self.certificate_name = ""  # the common name of the certificate that the client has proved to own
        self.waited_ms = now_ms  # when its last WAIT began, or the connection
        self.least_write_quorum = 0  # of the writes since the last WAIT, if it was ever another than now
        self.closing = False  # close the connection after the replies so far
        self.slots: list[list[bytes] | Reply] = []
        self.held_bytes = 0  # size of the replies in the slots
        self.first_number = 0  # number of the command in the first slot
        self.kind = 0  # kind of the commands in flight, see commands/spec.py; not used once there are lanes
        self.turn = -1  # the turn in which these commands began
        self.transaction: Transaction | None = None  # between MULTI and EXEC
        self.watched: Watch | None = None
        self.lanes: Lanes | None = None  # made when commands in flight may have to wait for each other
        self.backlog: deque[list[bytes]] = deque()  # a command that must run alone, and all behind it
        self.flushed = 0  # how many replies the last `flush` returned
        self.flushed_bytes = 0  # their size
        # Numbers whose replies CLIENT REPLY drops: start, end (None: open).
        self.muted: list[tuple[int, int | None]] = []
        self._ready = ready
        self.statistics = statistics
        self.listed = self.is_due = False  # `_ready` has this session, as it got replies; the turn's end flushes it

    def client(self) -> Session:
        """The session of the connection: this one, unless it runs a part of that one's commands."""
        return self

    def queued_bytes(self) -> int:
        """The memory of what waits for EXEC, and of the keys that are watched."""
        watched = 0 if self.watched is None else sum([len(key) for key in self.watched.tokens])
        return watched if self.transaction is None else watched + self.transaction.size_bytes

    def _begin_rights(self) -> None:
        """What a new session may do, and what it has subscribed to."""
        self.access: Access | None = None  # what dispatch asks: `guard`, or else `rights`
        self.rights: Access | None = None  # what the user may do; None: everything
        self.guard: Access | None = None  # looks at each command while one of the next two is there (pubsub/guard.py)
        self.subscriber: Subscriber | None = None  # its subscriptions, if there are any
        self.tracker: Tracker | None = None  # how the keys that it reads are tracked, if they are

    def grant(self, rights: Access | None) -> None:
        """From now on the user may do this; None: everything."""
        self.rights = rights
        self.access = self.guard or rights

    def watch(self, guard: Access | None) -> None:
        """From now on this is asked before each command; None: only what the user may do counts."""
        self.guard = guard
        self.access = guard or self.rights

    def open(self, args: list[bytes]) -> int:
        """HOT. Opens a slot for a new command, and returns its number."""
        slots = self.slots
        number = self.first_number + len(slots)
        slots.append(args)
        self.in_flight += 1
        return number

    def open_in_place_of(self, earlier: int, args: list[bytes]) -> int:
        """HOT. As `open`, for a command in place of command `earlier`, whose arguments are not needed any more."""
        self.slots[earlier - self.first_number] = _SUPERSEDED
        return self.open(args)

    def answer(self, number: int, reply: Reply) -> None:
        """HOT. Puts the reply of command `number` into its slot."""
        index = number - self.first_number
        assert index >= 0 and type(self.slots[index]) is list, "a request was answered twice"
        if isinstance(reply, LargeReply):
            size_bytes = reply.cost_bytes
        else:
            size_bytes = len(reply)
            if reply and reply[0] == _ERROR:
                self.statistics.count_error(reply)
        self.slots[index] = reply
        self.held_bytes += size_bytes
        self.in_flight -= 1
        if self.lanes is not None:
            if self.in_flight:
                self.lanes.leave(number)
            else:
                self.lanes = None
        if not self.listed:
            self.listed = True
            self._ready.append(self)

    def command(self, number: int) -> list[bytes] | None:
        """Returns the arguments of command `number`, while it is in flight."""
        index = number - self.first_number
        slot = self.slots[index] if 0 <= index < len(self.slots) else b""
        return slot if isinstance(slot, list) else None

    def flush(self) -> Flushed:
        """Removes and returns the replies before the first command that is still in flight; `flushed` counts them."""
        slots = self.slots
        if not self.in_flight:
            count = len(slots)
        else:
            count = 0
            while type(slots[count]) is not list:
                count += 1
        self.first_number += count
        self.flushed = count
        if self.muted:
            self._drop_muted(count)
        if count == len(slots):
            due = slots
            self.slots = []
        else:
            due = slots[:count]
            del slots[:count]
        try:
            replies = b"".join(due)  # type: ignore[arg-type]
        except TypeError:
            return self._flush_pieces(due)
        self.flushed_bytes = len(replies)
        self.held_bytes -= self.flushed_bytes
        return replies

    def _flush_pieces(self, due: list[list[bytes] | Reply]) -> list[bytes | memoryview]:
        """Returns replies, some of them large, as a list of buffers."""
        pieces: list[bytes | memoryview] = []
        self.flushed_bytes = 0
        for reply in due:
            if isinstance(reply, LargeReply):
                pieces += reply.pieces
                self.flushed_bytes += reply.cost_bytes
            elif isinstance(reply, bytes):
                pieces.append(reply)
                self.flushed_bytes += len(reply)
        self.held_bytes -= self.flushed_bytes
        return pieces

    def note_write_quorum(self, quorum: int) -> None:
        """Notes for WAIT that writes of this connection are, or were, answered at W = `quorum`."""
        if not self.least_write_quorum or quorum < self.least_write_quorum:
            self.least_write_quorum = quorum

    def mute(self, start: int, end: int | None) -> None:
        """Drops the replies with numbers from `start` (included) to `end` (not; None: no end)."""
        if not self.muted or self.muted[-1][1] is not None:  # else all replies are dropped already (CLIENT REPLY OFF)
            self.muted.append((start, end))

    def unmute(self, number: int) -> None:
        """Sends replies again, from `number` on."""
        self.muted = [(start, number if end is None else min(end, number)) for start, end in self.muted]

    def _drop_muted(self, count: int) -> None:
        """Empties the muted ones among the next `count` replies, and removes ranges that have passed."""
        first = self.first_number - count
        for index in range(count):
            number = first + index
            if any(start <= number and (end is None or number < end) for start, end in self.muted):
                reply = self.slots[index]
                self.held_bytes -= reply.cost_bytes if isinstance(reply, LargeReply) else len(reply)
                self.slots[index] = b""
        self.muted = [(start, end) for start, end in self.muted if end is None or end > self.first_number]

    def break_off(self) -> int:
        """Stops the session after an internal error, which has left the order of its commands unknown.

        Returns how many commands were parked in lanes.
        """
        parked = self.lanes.parked if self.lanes is not None else 0
        self.lanes = None
        self.closing = self.is_broken = True
        return parked

    def unanswered(self) -> list[tuple[int, list[bytes]]]:
        """Returns the numbers and the arguments of the commands in flight."""
        return [(self.first_number + index, slot) for index, slot in enumerate(self.slots) if isinstance(slot, list)]
