"""Manual pages as roff source, in the `man` macros that groff, mandoc and every Unix understand.

roff gives a meaning to a backslash anywhere, and to a dot or an apostrophe at the beginning of a line. It turns `-` into
a hyphen that cannot be copied into a shell. So all text passes through `escape`. In the prose of the help, options and
commands are recognised by their form and set bold, as manual pages do.

Source: man(7), groff_man_style(7).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

# Options (--json) and our own command lines (dyn ring show) in prose.
_LITERAL = re.compile(
    r"(?<![\w-])(--[a-z][a-z-]*|dyn(?: (?:up|down|get|set|del|repair|(?:cluster|ring|node|hints|task) [a-z]+))?)(?![\w-])"
)


def escape(text: str) -> str:
    """Escapes `text` so that roff prints it unchanged."""
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("…", "...").replace("^", "\\(ha").replace("~", "\\(ti")
    text = text.replace("'", "\\(aq").replace('"', "\\(dq").replace("`", "\\(ga")
    return "\n".join("\\&" + line if line.startswith(".") else line for line in text.split("\n"))


def prose(text: str) -> str:
    """Escaped text with options and commands in bold."""
    parts = _LITERAL.split(text)
    return "".join(bold(part) if index % 2 else escape(part) for index, part in enumerate(parts))


def bold(text: str) -> str:
    """Escaped text in bold: words that are typed literally."""
    return f"\\fB{escape(text)}\\fR"


def italic(text: str) -> str:
    """Escaped text in italics: placeholders."""
    return f"\\fI{escape(text)}\\fR"


def title(name: str, section: int, release: str, manual: str) -> str:
    """The first line of a page. It has no date, so that equal sources give equal pages."""
    return f'.TH "{escape(name.upper())}" "{section}" "" "{escape(release)}" "{escape(manual)}"'


def heading(text: str) -> str:
    """The heading of a section."""
    return f".SH {escape(text)}"


def paragraphs(text: str) -> list[str]:
    """Prose whose paragraphs are separated by empty lines."""
    lines: list[str] = []
    for index, paragraph in enumerate(text.split("\n\n")):
        lines += ([".PP"] if index else []) + [prose(" ".join(paragraph.split()))]
    return lines


def entry(tag: str, text: str) -> list[str]:
    """A term, which is roff already, and its meaning."""
    return [".TP", tag, prose(text)]


def example(explanation: str, commands: Sequence[str]) -> list[str]:
    """Prose, then lines that are typed literally."""
    return [".PP", prose(explanation), ".PP", ".RS 4", ".nf", *(escape(line) for line in commands), ".fi", ".RE"]
