"""The node's log: one line for each event, whatever a client or another node has sent. log_outputs.py says where it goes.

The problem. Texts of clients and peers stand in log lines: names, addresses, errors that quote what was sent. A line feed
in one of them would forge a line, an escape sequence would reach the terminal of the operator who reads the log, 30 MB of
a name would fill the disk, and so would a client that causes the same line ten thousand times a second.

The idea. All lines pass through one handler, so no caller has to remember any of this:

- `LineFormatter` cuts each argument to `ARGUMENT_CHARS_MAX` and each line to `LINE_CHARS_MAX`, and writes every character
  that is not printable as Python does (`\\n`, `\\x1b`, `\\u202e`). Lines of a traceback begin with `| `, so that the
  message of an exception cannot look like a line of the log.
- `RateLimit` lets `BURST` lines of one call site pass at once, and then one in `REFILL_S`. A call site is its format
  string, which is constant (a test reads all calls), or the `site` that it gives as an extra. The number of lines left out
  stands in the next line of that call site, or in a line of its own once a minute has passed. Critical lines always pass:
  the node writes them once, as it ends.
- `Levels` lets a line pass by its level and the level of its area (setting `log_level`, such as "info, peers=warning"). It
  also notes the event of the line (log_events.py).

With `log_format = "json"` each line is one JSON object: time (UTC), level, node, area, event, message, and the fields of
the event; a traceback is the member `trace`. Names of events stay when a sentence changes.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Callable

from server.core.base.config import Config, log_levels
from server.shell.log_events import event_of
from server.shell.log_outputs import output_of

ARGUMENT_CHARS_MAX = 600
LINE_CHARS_MAX = 4000
TRACEBACK_LINES_MAX = 200
BURST = 30
REFILL_S = 2.0
REPORT_PAUSE_S = 60.0
_SITES_MAX = 1000

_LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "critical": logging.CRITICAL,
}

log = logging.getLogger("dyn")


def begin_log() -> None:
    """Sends the log of this process to standard error, until `follow_settings` has read where it goes."""
    log.setLevel(logging.DEBUG)  # `Levels` decides
    _install(logging.StreamHandler(sys.stderr), Config(), "")


def follow_settings(config: Config, node: str) -> None:
    """Sends the log where the settings say, in their format, and follows their changes from now on. Raises OSError."""
    before = logging.getLogger().handlers
    _install(output_of(config), config, node)
    for handler in before:
        handler.close()


def _install(handler: logging.Handler, config: Config, node: str) -> None:
    handler.setFormatter(LineFormatter(config))
    handler.addFilter(Levels(config, node))
    handler.addFilter(RateLimit(time.monotonic))
    root = logging.getLogger()
    root.setLevel(logging.INFO)
    root.handlers = [handler]


def report_left_out() -> None:
    """Tells, once a minute, which lines were left out. Called once a second."""
    for handler in logging.getLogger().handlers:
        for each in handler.filters:
            if isinstance(each, RateLimit):
                each.report()


def printable(text: str) -> str:
    """`text` with every character that is not printable as its escape, so that it is one line and moves no cursor."""
    if text.isprintable():
        return text
    return "".join([each if each.isprintable() else repr(each)[1:-1] for each in text])


def cut(text: str, chars_max: int) -> str:
    """At most `chars_max` characters of `text`, with a note of how many there were."""
    return text if len(text) <= chars_max else f"{text[:chars_max]}... ({len(text)} characters)"


class Levels(logging.Filter):
    """Lets a line pass by the level of its area, and notes its event."""

    def __init__(self, config: Config, node: str) -> None:
        super().__init__()
        self._config = config
        self._node = node
        self._text = ""
        self._levels: dict[str, int] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is written. It comes before `RateLimit`, which changes the format."""
        if self._text != self._config.log_level:
            self._text = self._config.log_level
            self._levels = {area: _LEVELS[word] for area, word in log_levels(self._text).items()}
        event = event_of(record)
        arguments = record.args if isinstance(record.args, tuple) else ()
        fields = {name: _argument(value) for name, value in zip(event.fields, arguments, strict=False)}
        record.fields = {"node": self._node, "area": event.area, "event": event.name, **fields}
        return record.levelno >= min(self._levels.get(event.area, self._levels[""]), logging.CRITICAL)


class LineFormatter(logging.Formatter):
    """Formats records as lines that what a client has sent can neither forge nor make long."""

    def __init__(self, config: Config) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s")
        self._config = config

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line, and its traceback, if it has one, behind it or in it."""
        arguments = record.args if isinstance(record.args, tuple) else ()
        message = str(record.msg) % tuple(map(_argument, arguments)) if arguments else record.getMessage()
        message = cut(printable(message), LINE_CHARS_MAX)
        if self._config.log_format == "json":
            return self._as_json(record, message)
        given = logging.makeLogRecord(record.__dict__)  # other handlers get the record as it was
        given.msg, given.args = message, ()
        given.exc_text = given.stack_info = None
        given.exc_info = None
        line = super().format(given)
        return line if not record.exc_info else f"{line}\n{_marked(self.formatException(record.exc_info))}"

    def _as_json(self, record: logging.LogRecord, message: str) -> str:
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line = {"time": f"{moment}.{int(record.msecs):03d}Z", "level": record.levelname.lower()}
        line |= {"message": message, **getattr(record, "fields", {})}
        if record.exc_info:
            line["trace"] = _marked(self.formatException(record.exc_info))
        return json.dumps(line, ensure_ascii=False)


def _argument(value: object) -> object:
    return value if isinstance(value, int | float) else printable(cut(str(value), ARGUMENT_CHARS_MAX))


def _marked(trace: str) -> str:
    lines = trace.split("\n")
    if len(lines) > TRACEBACK_LINES_MAX:
        half = TRACEBACK_LINES_MAX // 2
        lines = [*lines[:half], f"... {len(lines) - 2 * half} lines ...", *lines[-half:]]
    return "\n".join([f"| {cut(printable(line), ARGUMENT_CHARS_MAX)}" for line in lines])


class _Site:
    """A call of the log: how many of its lines may pass, and how many were left out."""

    __slots__ = ("left_out", "level", "passed_s", "tokens")

    def __init__(self, level: int, now_s: float) -> None:
        self.level = level
        self.tokens = float(BURST)
        self.passed_s = now_s  # when the tokens were counted
        self.left_out = 0


class RateLimit(logging.Filter):
    """Lets a call of the log pass `BURST` times, and then once in `REFILL_S`."""

    def __init__(self, now_s: Callable[[], float]) -> None:
        super().__init__()
        self._now_s = now_s
        self._sites: dict[str, _Site] = {}
        self._reported_s = now_s()

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is written; it then says how many like it were not."""
        if record.levelno >= logging.CRITICAL:
            return True
        now_s = self._now_s()
        key = str(getattr(record, "site", record.msg))
        site = self._sites.get(key)
        if site is None:
            if len(self._sites) >= _SITES_MAX:
                self._sites.pop(next(iter(self._sites)))
            site = self._sites[key] = _Site(record.levelno, now_s)
        site.tokens = min(BURST, site.tokens + (now_s - site.passed_s) / REFILL_S)
        site.passed_s = now_s
        if site.tokens < 1:
            site.left_out += 1
            return False
        site.tokens -= 1
        if site.left_out:
            record.msg = f"{record.msg} (and {site.left_out} more lines like this, left out)"
            site.left_out = 0
        return True

    def report(self) -> None:
        """Tells, once a minute, of lines that were left out and have not been told of since. Called once a second."""
        now_s = self._now_s()
        if now_s - self._reported_s < REPORT_PAUSE_S:
            return
        self._reported_s = now_s
        for key, site in list(self._sites.items()):
            if site.left_out:
                count, site.left_out = site.left_out, 0
                log.log(site.level, "%d lines were left out of this log that are like this one: %s", count, key)
