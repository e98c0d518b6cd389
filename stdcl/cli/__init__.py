"""The ``stdcl`` command. A file per noun holds its verbs; each verb imports what it needs when it runs."""

from __future__ import annotations

from stdcl.cli.codes import BAD_INPUT, DONE, FAILED, INTERRUPTED
from stdcl.cli.command import main

__all__ = ["BAD_INPUT", "DONE", "FAILED", "INTERRUPTED", "main"]
