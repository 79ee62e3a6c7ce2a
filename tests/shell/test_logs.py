"""The log: no text of a client can forge a line, make one long, or fill the disk with lines."""

from __future__ import annotations

import ast
import logging
import sys
from pathlib import Path

import pytest

from server.shell.logs import (
    ARGUMENT_CHARS_MAX,
    BURST,
    LINE_CHARS_MAX,
    REFILL_S,
    REPORT_PAUSE_S,
    LineFormatter,
    RateLimit,
)

SERVER = Path(__file__).parent.parent.parent / "server"
LEVELS = {"debug", "info", "warning", "error", "critical", "exception"}
FORMATTER = LineFormatter("%(asctime)s %(levelname)s %(message)s")


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


def test_each_call_of_the_log_has_a_constant_format() -> None:
    """The limit tells calls apart by their formats, and the formatter cuts arguments: so no text is put into a format."""
    calls = 0
    for path in sorted(SERVER.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                continue
            function = node.func
            if function.attr in LEVELS and isinstance(function.value, ast.Name) and function.value.id == "log":
                calls += 1
                place = f"{path.relative_to(SERVER)}:{node.lineno}"
                assert isinstance(node.args[0], ast.Constant), f"{place}: the format of a log line is a constant string"
    assert calls > 40


def test_nothing_of_the_server_writes_but_by_the_log() -> None:
    for path in sorted(SERVER.rglob("*.py")):
        if path.name not in ("manual.py", "build.py", "__main__.py") and path != Path(sys.argv[0]):
            names = [node.func.id for node in ast.walk(ast.parse(path.read_text()))
                     if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)]  # fmt: skip
            assert "print" not in names, path
