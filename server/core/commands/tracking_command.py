"""CLIENT TRACKING, CACHING, TRACKINGINFO, GETREDIR (https://redis.io/docs/latest/commands/client-tracking/)."""

from __future__ import annotations

from collections.abc import Sequence

from protocol import resp
from server.core.base.errors import SYNTAX, CommandError
from server.core.base.sinks import Session, Sink
from server.core.base.subscriber import Tracker
from server.core.commands.arguments import integer
from server.core.commands.pubsub.guard import review_guard
from server.core.commands.shapes import named, session_of, show, word
from server.core.commands.spec import ALONE, IMMEDIATE, CommandSpec
from server.core.services.services import Services

_WORDS = ("bcast", "optin", "optout", "noloop")
_SWITCH = "before disabling tracking for this client, and then re-enabling it with a different mode."
_OVERLAPS = "ERR Prefix '{}' overlaps with {} prefix '{}'. Prefixes for a single client must not overlap."


def _tracking(services: Services, sink: Sink, number: int, args: list[bytes]) -> bytes:
    """CLIENT TRACKING ON|OFF [REDIRECT id] [PREFIX prefix …] [BCAST] [OPTIN] [OPTOUT] [NOLOOP]."""
    session = session_of(sink)
    tracker = _options(services, args[3:])
    mode = args[2].lower()
    if mode == b"on":
        _check(session.tracker, tracker)
        _check_members(services)
        if tracker.broadcasts and not tracker.prefixes:
            tracker.prefixes = {b"": None}  # all keys
        if session.tracker is not None:
            tracker.prefixes = session.tracker.prefixes | tracker.prefixes
            tracker.reads, tracker.reading = session.tracker.reads, session.tracker.reading
            tracker.changed_in_flight, tracker.invalid = session.tracker.changed_in_flight, session.tracker.invalid
            tracker.undecided, tracker.last_write = session.tracker.undecided, session.tracker.last_write
        services.tracking.start(session, tracker)
    elif mode == b"off":
        services.tracking.stop(session)
    else:
        raise CommandError(SYNTAX)
    review_guard(services, session)
    return resp.OK


def _options(services: Services, words: Sequence[bytes]) -> Tracker:
    found: dict[str, None] = {}
    prefixes: list[bytes] = []
    redirect, place = 0, 0
    while place < len(words):
        name, has_more = words[place].lower().decode("latin-1"), place + 1 < len(words)
        if name == "redirect" and has_more:
            place += 1
            if redirect:
                raise CommandError("ERR A client can only redirect to a single other client")
            redirect = integer(words[place])
            if redirect not in services.clients.sessions:
                raise CommandError("ERR The client ID you want redirect to does not exist")
        elif name == "prefix" and has_more:
            place += 1
            prefixes.append(words[place])
        elif name in _WORDS:
            found[name] = None
        else:
            raise CommandError(SYNTAX)
        place += 1
    return Tracker(redirect, list(found), prefixes)


def _check(present: Tracker | None, wanted: Tracker) -> None:
    """Raises CommandError if the options do not fit together, or do not fit those before."""
    if wanted.prefixes and not wanted.broadcasts:
        raise CommandError("ERR PREFIX option requires BCAST mode to be enabled")
    if present is not None and present.broadcasts != wanted.broadcasts:
        raise CommandError(f"ERR You can't switch BCAST mode on/off {_SWITCH}")
    if wanted.broadcasts and (wanted.opts_in or wanted.opts_out):
        raise CommandError("ERR OPTIN and OPTOUT are not compatible with BCAST")
    if wanted.opts_in and wanted.opts_out:
        raise CommandError("ERR You can't specify both OPTIN mode and OPTOUT mode")
    if present is not None and ((wanted.opts_in and present.opts_out) or (wanted.opts_out and present.opts_in)):
        raise CommandError(f"ERR You can't switch OPTIN/OPTOUT mode {_SWITCH}")
    known = list(present.prefixes) if present is not None else []
    prefixes = list(wanted.prefixes)
    for place, prefix in enumerate(prefixes):
        for others, whose in ((known, "an existing"), (prefixes[place + 1 :], "another provided")):
            other = next((each for each in others if each.startswith(prefix) or prefix.startswith(each)), None)
            if other is not None:
                raise CommandError(_OVERLAPS.format(show(prefix), whose, show(other)))


def _check_members(services: Services) -> None:
    """Refuses tracking while a member that can be reached would not tell of its changes."""
    state = services.state
    members = state.layout.members if state.layout is not None else ()
    unable = [each.name for each in members if each.id in state.links and each.id not in state.publishing]
    if unable:
        raise CommandError(f"ERR tracking needs this version on all nodes, and these have another: {', '.join(unable)}")


def _caching(services: Services, sink: Sink, number: int, args: list[bytes]) -> bytes:
    """CLIENT CACHING YES|NO: whether the keys of the next command are tracked."""
    tracker, mode = session_of(sink).tracker, args[2].lower()
    if tracker is None:
        raise CommandError(
            "ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or OPTOUT mode enabled"
        )
    if mode == b"yes" and not tracker.opts_in:
        raise CommandError("ERR CLIENT CACHING YES is only valid when tracking is enabled in OPTIN mode.")
    if mode == b"no" and not tracker.opts_out:
        raise CommandError("ERR CLIENT CACHING NO is only valid when tracking is enabled in OPTOUT mode.")
    if mode not in (b"yes", b"no"):
        raise CommandError(SYNTAX)
    tracker.asked_caching = True
    return resp.OK


def _getredir(services: Services, sink: Sink, number: int, args: list[bytes]) -> bytes:
    """CLIENT GETREDIR: the client that is told; 0 is this one, -1 stands for no tracking."""
    tracker = session_of(sink).tracker
    return resp.integer(-1 if tracker is None else tracker.redirect)


def _trackinginfo(services: Services, sink: Sink, number: int, args: list[bytes]) -> bytes:
    session = session_of(sink)
    tracker = session.tracker
    fields = {
        "flags": resp.set_([word(flag) for flag in _flags(session)], sink.resp3),
        "redirect": resp.integer(-1 if tracker is None else tracker.redirect),
        "prefixes": resp.array([resp.bulk(prefix) for prefix in (tracker.prefixes if tracker is not None else ())]),
    }
    return named(fields, sink.resp3)


def _flags(session: Session) -> list[str]:
    tracker = session.tracker
    if tracker is None:
        return ["off"]
    flags = {
        "on": True,
        "bcast": tracker.broadcasts,
        "optin": tracker.opts_in,
        "caching-yes": tracker.opts_in and tracker.asked_caching,
        "optout": tracker.opts_out,
        "caching-no": tracker.opts_out and tracker.asked_caching,
        "noloop": tracker.own_changes is not None,
        "broken_redirect": tracker.is_broken,
    }
    return [flag for flag, is_set in flags.items() if is_set]


_PLAIN = "noscript loading stale"
SUBCOMMANDS: tuple[CommandSpec, ...] = (
    CommandSpec(
        "client|tracking", -3, ALONE, _tracking,
        "Tells this connection, or another one, which of the keys that it has read have changed, through any node.",
        "connection", _PLAIN, since="6.0.0",
        arguments="(ON|OFF) [REDIRECT client-id] [PREFIX prefix [PREFIX prefix ...]] [BCAST] [OPTIN] [OPTOUT] [NOLOOP]",
    ),
    CommandSpec(
        "client|trackinginfo", 2, IMMEDIATE, _trackinginfo, "Returns what this connection tracks.", "connection", _PLAIN,
        since="6.2.0",
    ),
    CommandSpec(
        "client|caching", 3, ALONE, _caching, "Says whether the keys of the next command are tracked.", "connection",
        _PLAIN, since="6.0.0", arguments="(YES|NO)",
    ),
    CommandSpec(
        "client|getredir", 2, IMMEDIATE, _getredir, "Returns which client is told of changed keys, or -1.", "connection",
        _PLAIN, since="6.0.0",
    ),
)  # fmt: skip
