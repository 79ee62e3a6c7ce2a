"""One Lua interpreter for scripts, closed off from Python and from the machine (lua/sandbox.lua).

Theory. A run has a budget of instructions; functions of C whose work is not linear declare it beforehand. A script that
spends its budget, or more memory than it may, is stopped, and nothing it has done counts. What Python raises in a callback
is kept here, stops the script, and is raised again once Lua has returned: Lua's `pcall` must not get hold of it.

Memory has a limit while Lua runs, and none while Python puts arguments in place: an allocation that fails there would end
the process. One that fails in a callback would jump over frames of Python, so a callback looks for room for its result
beforehand. Lua 5.1 collects no garbage when memory ends, so some of the limit is garbage.

The interpreter is stock Lua 5.1, the dialect of Redis. Strings are bytes. Numbers, tables and texts cross the border as
Lua's own; no Python object does, but the callbacks, which are local variables of the sandbox.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from lupa.lua51 import LuaError, LuaMemoryError, LuaRuntime

from server.core.scripts.engine import (
    BUDGET,
    HOST,
    MEMORY,
    TIME,
    WHOLE,
    Call,
    Function,
    Limits,
    Program,
    ScriptError,
    Stopped,
)
from server.scripting import numbers
from server.scripting.tail_calls import without_tail_calls

_SOURCES: Final = Path(__file__).parent / "lua"
_LIBRARIES: Final = ("bit", "struct", "cmsgpack", "cjson")
_PARTS: Final = ("functions", "random", "replies", "texts")  # of the sandbox, in files of their own
_SCRIPTS_MAX: Final = 2048  # compiled scripts that are kept
_COLLECT_BYTES: Final = 4 << 20  # beyond this the garbage is collected before a script
_HEADROOM_BYTES: Final = 1 << 20  # that a result of a callback leaves
_REASONS: Final = {b"budget": BUDGET, b"whole": WHOLE, b"time": TIME, b"memory": MEMORY, b"host": HOST}
VERSION: Final = (b"7.0.15", 0x0007000F)


class _Hooks(NamedTuple):
    """What the sandbox asks of the host besides commands."""

    log: Callable[[int, bytes], None]
    may_run: Callable[[list[bytes]], bool | None]


def _refuse_attribute(owner: object, name: object, is_setting: bool) -> str:
    raise AttributeError("scripts see no objects of Python")


def _no_call(args: list[bytes], resp3: bool) -> bytes:
    """The text of a library runs no commands, so nothing calls this."""
    raise AssertionError("a library is loaded without commands")


class Runtime:
    """An interpreter. It runs one script at a time, and is not for use by several threads.

    `clock` shows the seconds of processor time that its thread has used; that of a worker shows zero, and infinity once the
    run is to end. It must not raise.
    """

    def __init__(self, memory_bytes_max: int, clock: Callable[[], float] = time.thread_time) -> None:
        self._clock = clock
        self._failure: BaseException | None = None
        self._call: Call | None = None
        self._hooks: _Hooks | None = None
        self._lua = LuaRuntime(
            encoding=None, register_eval=False, register_builtins=False, unpack_returned_tuples=True,
            attribute_filter=_refuse_attribute, max_memory=0,
        )  # fmt: skip
        self._api = self._build()
        self._base_bytes = self._lua.get_memory_used()
        self._bytes_max = self._base_bytes + memory_bytes_max

    def _build(self) -> Any:
        """Loads the sandbox; returns its functions."""
        lua = self._lua
        make = {name.encode(): self._chunk(name) for name in _LIBRARIES}
        helpers = {
            b"bit": numbers.bit, b"pack_double": self._pack_double, b"unpack_double": numbers.unpack_double,
            b"null": lua.execute(b"return newproxy()"),
        }  # fmt: skip
        constants = lua.table_from({
            b"version": VERSION[0], b"number": VERSION[1], b"scripts_max": _SCRIPTS_MAX,
            b"helpers": lua.table_from(helpers),
        })  # fmt: skip
        libraries = lua.table_from({name: chunk() for name, chunk in make.items()})
        return self._chunk("sandbox")(
            self._run_command, self._sha1, self._log, self._may_run, self._clock, libraries, constants,
            lua.table_from({name.encode(): self._chunk(name) for name in _PARTS}),
        )  # fmt: skip

    def _chunk(self, name: str) -> Any:
        return self._lua.compile((_SOURCES / f"{name}.lua").read_bytes(), b"=redis")

    # --- callbacks of the sandbox; none of them raises

    def _run_command(self, resp3: bool, *args: bytes) -> bytes | None:
        try:
            assert self._call is not None, "a script runs"
            return self._with_room(self._call(list(args), resp3))
        except BaseException as error:  # noqa: BLE001 - raised again in `_finish`, once Lua has returned
            self._failure = error
            return None

    def _with_room(self, result: bytes) -> bytes:
        """The result, which Lua is about to copy. Raises Stopped if there is no room for it."""
        if self._lua.get_memory_used() + len(result) + _HEADROOM_BYTES > self._bytes_max:
            raise Stopped(MEMORY)
        return result

    def _sha1(self, text: bytes) -> bytes | None:
        try:
            return self._with_room(hashlib.sha1(text, usedforsecurity=False).hexdigest().encode())
        except Stopped as error:
            self._failure = error
            return None

    def _pack_double(self, option: bytes, little: bool, number: float) -> bytes | None:
        try:
            return self._with_room(numbers.pack_double(option, little, number))
        except Stopped as error:
            self._failure = error
            return None

    def _log(self, level: int, text: bytes) -> None:
        if self._hooks is not None:
            self._hooks.log(int(level), text)

    def _may_run(self, *args: bytes) -> bool | None:
        return None if self._hooks is None else self._hooks.may_run(list(args))

    # --- running

    def compile(self, sha: bytes, text: bytes) -> None:
        """Compiles a script, unless it is known. Raises ScriptError, with the text of Lua."""
        self._compile(sha, text, False, b"ERR Error compiling script (new function): %b")

    def _compile_library(self, sha: bytes, text: bytes) -> None:
        self._compile(sha, text, True, b"ERR Error compiling function: %b")

    def _compile(self, sha: bytes, text: bytes, is_library: bool, error: bytes) -> None:
        api = self._api
        if not api.knows(sha, is_library):
            problem = self._guarded(lambda: api.compile(sha, without_tail_calls(text), is_library))
            if problem is not None:
                raise ScriptError(error % problem)

    def load(self, sha: bytes, text: bytes, limits: Limits) -> list[Function]:
        """Compiles a library, and runs its text; returns the functions that it registers. Raises ScriptError, Stopped."""
        self._compile_library(sha, text)
        api = self._api
        found = self._finished(lambda: api.load(sha, limits.instructions_max, limits.whole_max), _no_call, limits)
        if isinstance(found, bytes):
            raise ScriptError(b"ERR Error registering functions: %b" % found)
        return [
            Function(row[1], row[2] or None, tuple([flag.decode() for flag in row[3].values()]))
            for row in found.values()
        ]

    def run(
        self, program: Program, keys: Sequence[bytes], args: Sequence[bytes], call: Call, limits: Limits, resp3: bool
    ) -> bytes:
        """Runs a program; returns the encoded reply, which may be an error. Raises Stopped, and what `call` raises."""
        sha, text, function = program
        if function:
            self._compile_library(sha, text)
        else:
            self.compile(sha, text)
        key_table, arg_table = self._lua.table_from(keys), self._lua.table_from(args)
        spends = not limits.in_worker and limits.instructions_max, limits.whole_max, resp3, limits.seed
        reply = self._finished(
            lambda: (
                self._api.call(sha, key_table, arg_table, *spends, function)
                if function
                else self._api.run(sha, key_table, arg_table, *spends)
            ),
            call,
            limits,
        )
        assert isinstance(reply, bytes), "a script ends with a reply, or is stopped"
        return reply

    def _finished(self, body: Callable[[], Any], call: Call, limits: Limits) -> Any:
        """Runs Lua with these callbacks; returns what that returns. Raises Stopped, and what a callback has raised."""
        self._failure = None
        self._call, self._hooks = call, _Hooks(limits.log, limits.may_run)
        try:
            result = self._guarded(body)
        finally:
            self._call = self._hooks = None
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure
        if isinstance(result, tuple):
            raise Stopped(_REASONS[result[1]])
        return result

    def _guarded(self, body: Callable[[], Any]) -> Any:
        """Runs Lua within its limit of memory."""
        if self._lua.get_memory_used() - self._base_bytes > _COLLECT_BYTES:
            self._api.collect()
        self._lua.set_max_memory(self._bytes_max, total=True)
        try:
            return body()
        except (LuaMemoryError, MemoryError):
            raise Stopped(MEMORY) from None
        except LuaError as error:
            # Whatever else escapes from Lua has met the end of memory, or of the stack of C, while it handled an error.
            raise Stopped(MEMORY) from error
        finally:
            self._lua.set_max_memory(0)
