"""Manual pages as roff source, in the `man` macros that groff, mandoc and every Unix understand.

Theory. roff gives meaning to a backslash anywhere, to a dot or an apostrophe at the beginning of a line, and turns `-`
into a hyphen that cannot be copied into a shell; so all text goes through `escape`. Running text of our help is plain
prose whose options and commands are recognised by their look and set bold, as manual pages have it.

Source: man(7), groff_man_style(7).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

# Options (--json, -), and our own command lines (dyn ring show), inside of prose.
_LITERAL = re.compile(
    r"(?<![\w-])(--[a-z][a-z-]*|dyn(?: (?:up|down|get|set|del|repair|(?:cluster|ring|node|hints|task) [a-z]+))?)(?![\w-])"
)


def escape(text: str) -> str:
    """`text` so that roff prints it as it is."""
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("…", "...").replace("^", "\\(ha").replace("~", "\\(ti")
    text = text.replace("'", "\\(aq").replace('"', "\\(dq").replace("`", "\\(ga")
    return "\n".join("\\&" + line if line.startswith(".") else line for line in text.split("\n"))


def prose(text: str) -> str:
    """Escaped, with options and commands in bold."""
    parts = _LITERAL.split(text)
    return "".join(bold(part) if index % 2 else escape(part) for index, part in enumerate(parts))


def bold(text: str) -> str:
    """Escaped, in bold: what is typed as it stands."""
    return f"\\fB{escape(text)}\\fR"


def italic(text: str) -> str:
    """Escaped, in italics: what stands for something else."""
    return f"\\fI{escape(text)}\\fR"


def title(name: str, section: int, release: str, manual: str) -> str:
    """The page's first line. No date: equal sources give equal pages."""
    return f'.TH "{escape(name.upper())}" "{section}" "" "{escape(release)}" "{escape(manual)}"'


def heading(text: str) -> str:
    """A section."""
    return f".SH {escape(text)}"


def paragraphs(text: str) -> list[str]:
    """Prose whose paragraphs are parted by empty lines."""
    lines: list[str] = []
    for index, paragraph in enumerate(text.split("\n\n")):
        lines += ([".PP"] if index else []) + [prose(" ".join(paragraph.split()))]
    return lines


def entry(tag: str, text: str) -> list[str]:
    """A term (roff already) and what it means."""
    return [".TP", tag, prose(text)]


def example(explanation: str, commands: Sequence[str]) -> list[str]:
    """Prose, then lines that are typed as they stand."""
    return [".PP", prose(explanation), ".PP", ".RS 4", ".nf", *(escape(line) for line in commands), ".fi", ".RE"]
