"""`python -m server.settings_manual`: prints the manual page of the settings, dyn.toml(5), from the config class.

The page has each field of `Config` with its default, its variable and the comment behind it in the source, under the
headings that stand as comments above groups of fields.
"""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
from pathlib import Path
from typing import NamedTuple

from server.core.base.config import CHOICES, DEFAULTS, LIVE
from server.manual import escape
from server.shell.log_events import EVENTS

_PREFACE = """\
.TH DYN.TOML 5 "" "dyn" "dyn manual"
.SH NAME
dyn.toml \\- the settings of a dyn node
.SH SYNOPSIS
.B dyn node start \\-\\-dir DIR \\-\\-config FILE
.SH DESCRIPTION
A file of settings is TOML with one setting a line, at the top level:
.PP
.nf
    # of the nodes in room 3
    fsync = "always"
    siblings_max = 50
    metrics = "10.0.0.7:9100"
.fi
.PP
.B dyn config check FILE
names each mistake with its line. A setting that only an earlier version had is ignored, and the log says so. A directory
remembers the file of \\-\\-config.
.B dyn config show
tells the settings of a running node and where each one comes from.
.SS Which value counts
The strongest source that gives a setting, from the weakest to the strongest:
.TP
.B default
of this page; the sizes of the two caches are a share of the machine's memory.
.TP
.B directory
\\-\\-fsync and \\-\\-engine of an earlier start, which node.json remembers (and cluster.json of dyn up, with its
\\-\\-set). Where a stronger source gives the setting, the directory forgets it, and the log says so.
.TP
.B file
of \\-\\-config.
.TP
.B environment
the variable DYN_ and the name in capital letters, such as DYN_SIBLINGS_MAX=50. Switches take yes, no, true and false.
.TP
.B option
of this start: \\-\\-set NAME=VALUE, \\-\\-fsync, \\-\\-engine, \\-\\-metrics and those of TLS.
.TP
.B live
a change of the running node by dyn config set or CONFIG SET. It holds until the node restarts; CONFIG REWRITE writes it to
the file, whose comments stay.
.PP
Settings marked
.I live
can be changed so. On SIGHUP a node reads its file again, applies what has changed there of these settings, and logs which
changes need a restart. notify_keyspace_events and requirepass are one for the whole cluster once they have been changed;
SIGHUP and CONFIG REWRITE leave both out.
.SH SETTINGS
"""

_LOG = """\
.SH LOG
Each line of the log is one event. Its name and fields stay the same from release to release; the sentence may be improved.
With log_format = "json" a line is an object with time (UTC), level, node, area, event, message and the fields of the event;
the journal (log_to = "journal") has DYN_NODE, DYN_AREA, DYN_EVENT, and DYN_ with the name of each field. log_level sets the
level of all areas or of some. The areas and their events:
"""


class Setting(NamedTuple):
    """A field of the config class: the heading above it, its name, and what its comment says."""

    heading: str
    name: str
    text: str


def documented() -> list[Setting]:
    """The fields in their order."""
    source = (Path(__file__).parent / "core/base/config.py").read_text()  # the module itself may be compiled
    comments = {
        token.start[0]: (token.start[1], token.string.lstrip("# "))
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    }
    found, heading, last = [], "", 0
    body = next(
        node for node in ast.parse(source).body if isinstance(node, ast.ClassDef) and node.name == "Config"
    ).body
    for field in body:
        if not isinstance(field, ast.AnnAssign):
            continue
        assert isinstance(field.target, ast.Name) and field.end_lineno is not None
        above = [comments[line][1] for line in range(last + 1, field.lineno) if line in comments and last]
        heading = above[-1] if above else heading or "Storage"
        words = [comments[line][1] for line in range(field.lineno, field.end_lineno + 1) if line in comments]
        found.append(Setting(heading, field.target.id, " ".join(words)))
        last = field.end_lineno
    return found


def page() -> str:
    """The page as roff source."""
    lines, heading = [_PREFACE.rstrip()], ""
    for setting in documented():
        if setting.heading != heading:
            heading = setting.heading
            lines.append(f".SS {escape(heading)}")
        live = ", live" if setting.name in LIVE else ""
        lines += [".TP", f".B {setting.name} \\fR= {escape(_shown(setting.name))}{live}", _sentence(setting)]
    others = ("dyn", "dyn-config-show", "dyn-config-set", "dyn-config-check", "dyn-node-start", "dyn-up")
    lines += [
        *_events(),
        ".SH SEE ALSO",
        *[f".BR {escape(name)} (1)," for name in others[:-1]],
        f".BR {escape(others[-1])} (1)",
    ]
    return "\n".join(lines) + "\n"


def _events() -> list[str]:
    """The areas and events of the log, with the fields of each."""
    lines = [_LOG.rstrip()]
    for area, events in EVENTS.items():
        lines += [".TP", f".B {area}"]
        for names in dict.fromkeys(events.values()):
            event, *fields = names.split()
            lines += [escape(f"{event} ({', '.join(fields)})" if fields else event), ".br"]
        lines.pop()
    return lines


def _sentence(setting: Setting) -> str:
    text = re.sub(r"\s*\([^()]*\.py[^()]*\)|; see shell/\S+\.py", "", setting.text)  # files say nothing to an operator
    words = CHOICES.get(setting.name, ())
    missing = bool(words) and not all(word in text for word in words)
    text = f"{text}: {', '.join(words)}" if missing else text
    return escape(text[:1].upper() + text[1:] + ("" if text.endswith(".") else "."))


def _shown(name: str) -> str:
    """The default as it stands in the file; bytes also by their unit."""
    value = DEFAULTS[name]
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f'"{value}"'
    assert isinstance(value, int)
    for unit, size in (("MiB", 1 << 20), ("KiB", 1 << 10)):
        if "bytes" in name and value >= size and value % size == 0:
            return f"{value} ({value // size} {unit})"
    return str(value)


if __name__ == "__main__":
    sys.stdout.write(page())
