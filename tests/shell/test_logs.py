"""The log: no text of a client can forge a line, make one long, or fill the disk with lines."""

from __future__ import annotations

import ast
import json
import logging
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from server.core.base.config import LOG_AREAS, Config, ConfigError, log_levels
from server.shell import log_outputs, logs
from server.shell.log_events import EVENTS
from server.shell.log_outputs import JournalOutput
from server.shell.logs import (
    ARGUMENT_CHARS_MAX,
    BURST,
    LINE_CHARS_MAX,
    REFILL_S,
    REPORT_PAUSE_S,
    Levels,
    LineFormatter,
    RateLimit,
)

SERVER = Path(__file__).parent.parent.parent / "server"
LEVELS = {"debug", "info", "warning", "error", "critical", "exception"}
FORMATTER = LineFormatter(Config())


def line_of(message: str, *arguments: object, error: BaseException | None = None) -> str:
    exc_info = None if error is None else (type(error), error, error.__traceback__)
    return FORMATTER.format(logging.LogRecord("dyn", logging.INFO, __file__, 1, message, arguments, exc_info))


@pytest.mark.parametrize(
    ("sent", "shown"),
    [
        ("a\n2026-01-01 00:00:00,000 INFO forged", r"a\n2026-01-01 00:00:00,000 INFO forged"),
        ("\x1b[2J\x07", r"\x1b[2J\x07"),
        ("\u202eevil\u2028", r"\u202eevil\u2028"),
        ("\x85\x9b31m", r"\x85\x9b31m"),
        ("\udc80", r"\udc80"),
        ("café 日本", "café 日本"),
    ],
)
def test_what_is_not_printable_is_escaped(sent: str, shown: str) -> None:
    line = line_of("node %s says", sent)
    assert line.endswith(f" INFO node {shown} says") and "\n" not in line
    line.encode()  # it can be written


def test_arguments_and_lines_are_cut() -> None:
    line = line_of("cluster %s and %d", "x" * (30 << 20), 7)
    assert line.endswith(f"{'x' * 10}... ({30 << 20} characters) and 7") and len(line) < ARGUMENT_CHARS_MAX + 200
    assert len(line_of("%s " * 20, *["y" * 5000] * 20)) < LINE_CHARS_MAX + 200
    assert len(line_of("z" * 100_000)) < LINE_CHARS_MAX + 200


def test_an_exception_cannot_pose_as_a_line() -> None:
    try:
        raise ValueError("\n2026-01-01 00:00:00,000 INFO forged\x1b[1m" + "x" * 100_000)
    except ValueError as error:
        text = line_of("internal error", error=error)
    first, *trace = text.split("\n")
    assert first.endswith("INFO internal error") and all(line.startswith("| ") for line in trace)
    assert "Traceback" in trace[0] and "\x1b" not in text and len(text) < 10_000


class Log:
    """A log with a limit, on a clock that the test moves."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.limit = RateLimit(lambda: self.now_s)

    def passes(self, message: str, *arguments: object, level: int = logging.INFO, **extra: str) -> str:
        """The line that is written; empty if it is left out."""
        record = logging.LogRecord("dyn", level, __file__, 1, message, arguments, None)
        record.__dict__.update(extra)
        return FORMATTER.format(record).split(" INFO ")[-1] if self.limit.filter(record) else ""


def test_a_flood_of_one_call_leaves_a_burst_and_its_count() -> None:
    log = Log()
    written = [log.passes("client %s is cut", number) for number in range(10_000)]
    assert sum(map(bool, written)) == BURST and all(written[:BURST])
    assert log.passes("another call of the log") != ""
    log.now_s += REFILL_S
    assert (
        log.passes("client %s is cut", "x") == f"client x is cut (and {10_000 - BURST} more lines like this, left out)"
    )
    assert log.passes("client %s is cut", "x") == ""


def test_critical_lines_and_other_sites_pass() -> None:
    log = Log()
    for _ in range(BURST + 5):
        log.passes("command %s", "CONFIG", site="command config|set")
        assert log.passes("the end", level=logging.CRITICAL)
    assert log.passes("command %s", "CONFIG", site="command config|set") == ""
    assert log.passes("command %s", "FLUSHALL", site="command flushall") == "command FLUSHALL"


def test_what_a_flood_left_out_is_told_when_it_has_ended(caplog: pytest.LogCaptureFixture) -> None:
    log = Log()
    for number in range(BURST + 7):
        log.passes("client %s is cut", number)
    log.limit.report()
    assert not caplog.records
    log.now_s += REPORT_PAUSE_S
    with caplog.at_level(logging.INFO, "dyn"):
        log.limit.report()
        log.limit.report()
    assert [record.getMessage() for record in caplog.records] == [
        "7 lines were left out of this log that are like this one: client %s is cut"
    ]


def calls_of_the_log() -> Iterator[tuple[str, ast.expr, int]]:
    """Each call: where it is, its format, and how many arguments it has."""
    for path in sorted(SERVER.rglob("*.py")):
        if "compiled" in path.relative_to(SERVER).parts:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                continue
            function = node.func
            if (
                isinstance(function.value, ast.Name)
                and function.value.id == "log"
                and function.attr in {*LEVELS, "log"}
            ):
                at = int(function.attr == "log")
                starred = any(isinstance(each, ast.Starred) for each in node.args)
                yield (
                    f"{path.relative_to(SERVER)}:{node.lineno}",
                    node.args[at],
                    -1 if starred else len(node.args) - at - 1,
                )


def test_each_call_of_the_log_has_a_constant_format() -> None:
    """The limit tells calls apart by their formats, and the formatter cuts arguments: so no text is put into a format."""
    found = list(calls_of_the_log())
    assert len(found) > 40
    for place, text, _ in found:
        assert isinstance(text, ast.Constant), f"{place}: the format of a log line is a constant string"


def test_each_call_of_the_log_has_a_stable_name_and_a_name_for_each_argument() -> None:
    named = {text: names.split() for events in EVENTS.values() for text, names in events.items()}
    calls = [(place, text.value, count) for place, text, count in calls_of_the_log() if isinstance(text, ast.Constant)]
    for place, text, count in calls:
        assert text in named, f"{place}: give this line a name in server/shell/log_events.py: {text}"
        assert count in (-1, len(named[str(text)]) - 1), f"{place}: name each argument in log_events.py: {text}"
    assert set(named) == {text for _, text, _ in calls}, "a line that is not written any more has a name"
    assert tuple(EVENTS) == LOG_AREAS
    reserved = {"time", "level", "node", "area", "event", "message", "trace"}
    assert not reserved & {word for words in named.values() for word in words[1:]}


def test_nothing_of_the_server_writes_but_by_the_log() -> None:
    for path in sorted(SERVER.rglob("*.py")):
        if path.name not in ("manual.py", "build.py", "__main__.py") and path != Path(sys.argv[0]):
            names = [node.func.id for node in ast.walk(ast.parse(path.read_text()))
                     if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)]  # fmt: skip
            assert "print" not in names, path


def record_of(message: str, *arguments: object, level: int = logging.WARNING) -> logging.LogRecord:
    return logging.LogRecord("dyn", level, __file__, 1, message, arguments, None)


def test_levels_are_those_of_the_area_and_change_while_the_node_runs() -> None:
    config = Config.of({"log_level": "warning, peers=info,hints=critical"})
    levels = Levels(config, "n1")
    peer, hints, task = (
        "node %s is %s%s%s",
        "no hints for node %s are left after %s; there were up to %d",
        "task %s has begun",
    )
    assert levels.filter(record_of(peer, "n2", "up", "", "", level=logging.INFO))
    assert not levels.filter(record_of(hints, "n2", "1 s", 5, level=logging.ERROR))
    assert not levels.filter(record_of(task, "x", level=logging.INFO)) and levels.filter(record_of(task, "x"))
    config.log_level = "debug"
    assert levels.filter(record_of(hints, "n2", "1 s", 5, level=logging.DEBUG))


@pytest.mark.parametrize("text", ["", "loud", "info, peer=debug", "peers=", "peers", "info=debug"])
def test_a_wrong_level_is_refused_with_all_words(text: str) -> None:
    with pytest.raises(ConfigError, match=r"one of debug, info, warning, error, critical.*one of node, settings"):
        log_levels(text)
    with pytest.raises(ConfigError, match="'log_level' is wrong at"):
        Config.of({"log_level": text})


def test_a_line_of_json_has_the_event_and_its_arguments() -> None:
    config = Config.of({"log_format": "json"})
    formatter, levels, limit = LineFormatter(config), Levels(config, "n1"), RateLimit(lambda: 0.0)
    record = record_of("node %s is %s%s%s", "n2\n", "down", ": silent", ", after 5 s up")
    record.created, record.msecs = 1_700_000_000.5, 500
    assert levels.filter(record) and limit.filter(record)
    assert json.loads(formatter.format(record)) == {
        "time": "2023-11-14T22:13:20.500Z", "level": "warning", "node": "n1", "area": "peers", "event": "peer_state",
        "peer": "n2\\n", "state": "down", "reason": ": silent", "after": ", after 5 s up",
        "message": "node n2\\n is down: silent, after 5 s up",
    }  # fmt: skip
    strange = record_of("of a library: %s", "x")
    assert levels.filter(strange)
    document = json.loads(formatter.format(strange))
    assert (document["area"], document["event"], document["message"]) == ("node", "other", "of a library: x")
    try:
        raise ValueError("a\nb")
    except ValueError:
        strange.exc_info = sys.exc_info()
    line = formatter.format(strange)
    assert "\n" not in line and "ValueError" in json.loads(line)["trace"]


@pytest.fixture
def installed() -> Iterator[Callable[[Config], None]]:
    """Sends the log where a config says, and puts everything back afterwards."""
    root, dyn = logging.getLogger(), logging.getLogger("dyn")
    before = root.handlers, root.level, dyn.level
    root.handlers = []

    def follow(config: Config) -> None:
        dyn.setLevel(logging.DEBUG)
        logs.follow_settings(config, "n1")

    yield follow
    for handler in root.handlers:
        handler.close()
    root.handlers = before[0]
    root.setLevel(before[1])
    dyn.setLevel(before[2])


def test_a_file_is_rotated_and_so_many_are_kept(tmp_path: Path, installed: Callable[[Config], None]) -> None:
    path = tmp_path / "log"
    config = Config.of({"log_to": str(path), "log_file_bytes_max": 200, "log_files_kept": 2, "log_level": "error"})
    installed(config)
    log = logging.getLogger("dyn")
    for number in range(20):
        log.error("task %s has begun: %d partitions", f"t{number}", number)
        log.info("task %s has begun: %d partitions", "quiet", number)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["log", "log.1", "log.2"]
    assert path.stat().st_size <= 200 and path.stat().st_mode & 0o777 == 0o640
    lines = "".join(each.read_text() for each in (tmp_path / "log.2", tmp_path / "log.1", path)).splitlines()
    numbers = [int(line.split()[-2]) for line in lines]
    assert numbers == list(range(20 - len(numbers), 20)) and "quiet" not in " ".join(lines)
    config.log_file_bytes_max = 0
    config.log_format = "json"
    for number in range(9):
        log.error("task %s has begun: %d partitions", "last", number)
    assert path.read_text().count('"event": "task_begun"') == 9


def test_a_file_that_somebody_has_moved_away_begins_anew(tmp_path: Path, installed: Callable[[Config], None]) -> None:
    path = tmp_path / "log"
    installed(Config.of({"log_to": str(path)}))
    log = logging.getLogger("dyn")
    log.info("can %s again", "a")
    path.rename(tmp_path / "moved")
    log.info("can %s again", "b")
    path.unlink()
    path.mkdir()  # it cannot be opened: the line is lost, and nothing is raised or printed
    log.info("can %s again", "c")
    path.rmdir()
    log.info("can %s again", "d")
    assert [re.findall("can . again", each.read_text()) for each in (tmp_path / "moved", path)] == [
        ["can a again"], ["can d again"],
    ]  # fmt: skip


def test_standard_error_follows_the_file_into_the_next_one(tmp_path: Path) -> None:
    """As under `dyn up`, where the file is the standard error of the node."""
    path = tmp_path / "log"
    program = f"""
import logging, os
from server.core.base.config import Config
from server.shell.logs import begin_log, follow_settings
begin_log()
follow_settings(Config.of({{"log_to": {str(path)!r}, "log_file_bytes_max": 100, "log_files_kept": 9}}), "n1")
for number in range(4):
    logging.getLogger("dyn").info("can %s again", "x" * 50)
    os.write(2, b"raw %d\\n" % number)
"""
    with path.open("ab") as file:
        subprocess.run([sys.executable, "-c", program], stdout=file, stderr=file, check=True)
    found = [re.findall(r"raw \d", each.read_text()) for each in (tmp_path / "log.3", tmp_path / "log.2", path)]
    assert found == [["raw 0"], ["raw 1"], ["raw 3"]]


def test_the_journal_gets_entries_with_fields(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal:
        journal.bind(path)
        output = JournalOutput(path)
        config = Config()
        output.setFormatter(LineFormatter(config))
        output.addFilter(Levels(config, "n1"))
        output.handle(record_of("node %s is %s%s%s", "n2", "down", "", ""))
        entry = journal.recv(1 << 16).decode()
        assert {"PRIORITY=4", "SYSLOG_IDENTIFIER=dyn", "DYN_NODE=n1", "DYN_EVENT=peer_state", "DYN_PEER=n2"} < set(
            entry.split("\n")
        )
        output.close()
    assert logs_bytes("A", "b\nc") == b"A\n\x03" + bytes(7) + b"b\nc\n"
    os.unlink(path)
    with pytest.raises(OSError, match="there is no journal at"):
        JournalOutput(path)


def logs_bytes(name: str, value: str) -> bytes:
    return log_outputs._journal_field(name, value)
