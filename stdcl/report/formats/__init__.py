"""A table in every format: each module renders strings or numbers; nothing here decides what a table says."""

from __future__ import annotations

from collections.abc import Callable

from stdcl.report.display import Display
from stdcl.report.formats import latex, markdown, text

SUFFIXES: dict[str, Callable[[Display], str]] = {
    ".txt": text.render,
    ".md": markdown.render,
    ".tex": latex.render,
}
"""Suffix of a file -> what renders a table's strings into it."""
