"""FUNCTION: the libraries of functions of the cluster (https://redis.io/docs/latest/commands/?name=function).

Theory. The node that gets a change makes it, and answers once the nodes that can be reached have it, too: so a client that
is told OK can call the function through any of these. A node that cannot be reached gets it when it can be.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from protocol import resp
from server.core.base.errors import CommandError
from server.core.base.sinks import Sink
from server.core.commands.containers import container
from server.core.commands.glob import glob_of
from server.core.commands.scripting.kill import kill
from server.core.commands.scripting.run import why_stopped
from server.core.commands.shapes import named, show, word
from server.core.commands.spec import ALONE, IMMEDIATE, CommandSpec
from server.core.formats import payload_reader, payload_writer
from server.core.formats.payloads import PayloadError, TooLarge
from server.core.messages.libraries import LIBKNOWN
from server.core.scripts.engine import FLAGS, Function, ScriptError, Stopped
from server.core.scripts.library import Library, check_limits, library_name
from server.core.services.script_workers import LongScript
from server.core.services.scripts import SCRIPT_BYTES_MAX
from server.core.services.services import Services
from server.core.work.procedures import Steps
from server.core.work.questions import REPORT_PATIENCE_MS

_UNITS_PER_BYTE: Final = 1 / 200  # of the share of a turn (work/computing.py)
_UNITS_PER_LIBRARY: Final = 100
_POLICIES: Final = (b"APPEND", b"REPLACE", b"FLUSH")


# --- changing


def _changed(services: Services, changes: Mapping[bytes, Library | None], reply: bytes) -> Steps:
    """Makes a change, and waits until the nodes that can be reached have made it, too. One that hangs learns it later."""
    services.functions.change(changes)
    peers = services.functions.sharing.reachable()
    if peers:
        yield services.questions.ask(peers, LIBKNOWN, None, patience_ms=REPORT_PATIENCE_MS)
    return reply


def _name_of(text: bytes) -> bytes:
    if len(text) > SCRIPT_BYTES_MAX:
        raise CommandError(f"ERR a library has {SCRIPT_BYTES_MAX} bytes at most")
    try:
        return library_name(text)
    except ScriptError as error:
        raise CommandError(show(error.args[0])) from None


def _registered(services: Services, text: bytes) -> Library:
    """Runs the text of a library. Raises CommandError in Redis' words."""
    try:
        library = services.functions.registered(text)
        check_limits(library, library_name(text))
    except ScriptError as error:
        raise CommandError(show(error.args[0])) from None
    except Stopped as stopped:
        raise CommandError(why_stopped(services, stopped)) from None
    if not library.functions:
        raise CommandError("ERR No functions registered")
    return library


def _check_functions(present: Mapping[bytes, Library], changes: Mapping[bytes, Library]) -> None:
    """Raises CommandError if a function of the new libraries is already in another one."""
    taken = {
        each.name.lower() for name, library in present.items() if name not in changes for each in library.functions
    }
    for library in changes.values():
        for each in library.functions:
            if each.name.lower() in taken:
                raise CommandError(f"ERR Function {each.name.decode()} already exists")
        taken |= {each.name.lower() for each in library.functions}


def _load(services: Services, sink: Sink, number: int, args: list[bytes]) -> None:
    """FUNCTION LOAD [REPLACE] code."""
    for option in args[2:-1]:
        if option.upper() != b"REPLACE":
            raise CommandError(f"ERR Unknown option given: {show(option)}")
    text, replaces = args[-1], len(args) > 3
    name, present = _name_of(text), services.functions.all()
    if name in present and not replaces:
        raise CommandError(f"ERR Library '{name.decode()}' already exists")
    library = _registered(services, text)
    _check_functions(present, {name: library})
    services.run_steps(_changed(services, {name: library}, resp.bulk(name)), sink, number)


def _delete(services: Services, sink: Sink, number: int, args: list[bytes]) -> None:
    """FUNCTION DELETE library."""
    if args[2] not in services.functions.all():
        raise CommandError("ERR Library not found")
    services.run_steps(_changed(services, {args[2]: None}, resp.OK), sink, number)


def _flush(services: Services, sink: Sink, number: int, args: list[bytes]) -> None:
    """FUNCTION FLUSH [ASYNC|SYNC]."""
    _check_count("flush", args, 3)
    if len(args) == 3 and args[2].upper() not in (b"SYNC", b"ASYNC"):
        raise CommandError("ERR FUNCTION FLUSH only supports SYNC|ASYNC option")
    services.run_steps(_changed(services, dict.fromkeys(services.functions.all()), resp.OK), sink, number)


def _restore(services: Services, sink: Sink, number: int, args: list[bytes]) -> None:
    """FUNCTION RESTORE payload [FLUSH|APPEND|REPLACE]."""
    _check_count("restore", args, 4)
    policy = args[3].upper() if len(args) == 4 else b"APPEND"
    if policy not in _POLICIES:
        raise CommandError("ERR Wrong restore policy given, value should be either FLUSH, APPEND or REPLACE.")
    bytes_max = services.state.config.libraries_bytes_max
    try:
        texts = payload_reader.load_libraries(args[2], bytes_max)
    except PayloadError as error:
        raise CommandError(f"ERR {error}") from None
    except TooLarge:
        raise CommandError(f"ERR all libraries together exceed libraries_bytes_max={bytes_max}") from None

    def steps() -> Steps:
        changes: dict[bytes, Library] = {}
        for text in texts:
            name = _name_of(text)
            if name in changes:
                raise CommandError(f"ERR Library '{name.decode()}' already exists")
            yield from services.computing.reserve(_UNITS_PER_LIBRARY + int(len(text) * _UNITS_PER_BYTE))
            library = _registered(services, text)
            _check_functions(changes, {name: library})
            changes[name] = library
        present = services.functions.all()
        if policy == b"FLUSH":
            gone: dict[bytes, Library | None] = dict.fromkeys(present)
            return (yield from _changed(services, {**gone, **changes}, resp.OK))
        for name in changes:
            if name in present and policy != b"REPLACE":
                raise CommandError(f"ERR Library {name.decode()} already exists")
        _check_functions(present, changes)
        return (yield from _changed(services, changes, resp.OK))

    services.run_steps(steps(), sink, number)


def _check_count(subcommand: str, args: list[bytes], most: int) -> None:
    if len(args) > most:
        raise CommandError(
            f"ERR unknown subcommand or wrong number of arguments for '{show(args[1])}'. Try FUNCTION HELP."
        )


# --- looking


def _list(services: Services, sink: Sink, number: int, args: list[bytes]) -> bytes:
    """FUNCTION LIST [LIBRARYNAME pattern] [WITHCODE]."""
    pattern: bytes | None = None
    with_code, place = False, 2
    while place < len(args):
        option = args[place].upper()
        if option == b"WITHCODE" and not with_code:
            with_code = True
        elif option == b"LIBRARYNAME" and pattern is None:
            place += 1
            if place == len(args):
                raise CommandError("ERR library name argument was not given")
            pattern = args[place]
        else:
            raise CommandError(f"ERR Unknown argument {show(args[place])}")
        place += 1
    libraries = services.functions.all()
    if pattern is not None:
        matches = glob_of(pattern.lower(), services.state.config).matches
        libraries = {name: library for name, library in libraries.items() if matches(name.lower())}
    return resp.array([
        _library(name, library, with_code, sink.resp3) for name, library in libraries.items()
    ])  # fmt: skip


def _library(name: bytes, library: Library, with_code: bool, resp3: bool) -> bytes:
    code = {"library_code": resp.bulk(library.text)} if with_code else {}
    functions = resp.array([_function(each, resp3) for each in library.functions])
    return named({"library_name": resp.bulk(name), "engine": word("LUA"), "functions": functions, **code}, resp3)


def _function(function: Function, resp3: bool) -> bytes:
    about = resp.null(resp3) if function.description is None else resp.bulk(function.description)
    flags = resp.set_([resp.simple(flag) for flag in FLAGS if flag in function.flags], resp3)
    return named({"name": resp.bulk(function.name), "description": about, "flags": flags}, resp3)


def _dump(services: Services, sink: Sink, number: int, args: list[bytes]) -> bytes:
    """FUNCTION DUMP."""
    return resp.bulk(payload_writer.dump_libraries([each.text for each in services.functions.all().values()]))


def _stats(services: Services, sink: Sink, number: int, args: list[bytes]) -> bytes:
    """FUNCTION STATS: the function that this node runs for the longest time, if some run for long."""
    libraries, resp3 = services.functions.all(), sink.resp3
    functions = sum([len(each.functions) for each in libraries.values()])
    counts = {"libraries_count": resp.integer(len(libraries)), "functions_count": resp.integer(functions)}
    running = next((each for each in services.scripts.workers.running if each.program.function), None)
    shown = resp.null(resp3) if running is None else _running(running, services.state.now_ms, resp3)
    return named({"running_script": shown, "engines": named({"LUA": named(counts, resp3)}, resp3)}, resp3)


def _running(script: LongScript, now_ms: int, resp3: bool) -> bytes:
    about = {
        "name": resp.bulk(script.program.function),
        "command": resp.array([resp.bulk(word) for word in script.words]),
        "duration_ms": resp.integer(now_ms - script.since_ms),
    }
    return named(about, resp3)


def _kill(services: Services, sink: Sink, number: int, args: list[bytes]) -> None:
    """FUNCTION KILL."""
    services.run_steps(kill(services, functions=True), sink, number)


_WRITES: Final = "write noscript"
FUNCTION: CommandSpec = container(
    "function",
    "A container for commands about functions.",
    "scripting",
    (
        CommandSpec(
            "function|delete", 3, ALONE, _delete, "Deletes a library.", "scripting", _WRITES, since="7.0.0",
            arguments="library-name",
        ),
        CommandSpec(
            "function|dump", 2, IMMEDIATE, _dump, "Returns all libraries as one payload.", "scripting", "noscript",
            since="7.0.0", complexity="O(N) where N is the number of functions",
        ),
        CommandSpec(
            "function|flush", -2, ALONE, _flush, "Deletes all libraries.", "scripting", _WRITES, since="7.0.0",
            complexity="O(N) where N is the number of functions deleted", arguments="[ASYNC|SYNC]",
        ),
        CommandSpec(
            "function|kill", 2, ALONE, _kill, "Ends the function that runs.", "scripting", "noscript allow_busy",
            since="7.0.0",
        ),
        CommandSpec(
            "function|list", -2, IMMEDIATE, _list, "Lists libraries and their functions.", "scripting", "noscript",
            since="7.0.0", complexity="O(N) where N is the number of functions",
            arguments="[LIBRARYNAME library-name-pattern] [WITHCODE]", tips="nondeterministic_output_order",
        ),
        CommandSpec(
            "function|load", -3, ALONE, _load, "Makes a library of functions.", "scripting", "write denyoom noscript",
            since="7.0.0", complexity="O(1) (considering compilation time is redundant)",
            arguments="[REPLACE] function-code",
        ),
        CommandSpec(
            "function|restore", -3, ALONE, _restore, "Makes the libraries of a payload.", "scripting",
            "write denyoom noscript", since="7.0.0",
            complexity="O(N) where N is the number of functions on the payload",
            arguments="serialized-value [FLUSH|APPEND|REPLACE]",
        ),
        CommandSpec(
            "function|stats", 2, IMMEDIATE, _stats, "Tells what runs, and how many functions there are.", "scripting",
            "noscript allow_busy", since="7.0.0", tips="nondeterministic_output",
        ),
    ),
    since="7.0.0",
)  # fmt: skip
