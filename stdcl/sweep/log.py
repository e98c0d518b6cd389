"""The sweep's log: printed as long as a terminal reads it, and always written to the sweep's folder."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from stdcl.atomic import is_incomplete
from stdcl.errors import UserError

Say = Callable[[str], None]


class SweepLog:
    """Shows texts and appends them to a file, each with its time (UTC).

    A terminal, pipe or file that takes no more text ends nothing: what follows goes to the log alone. A log that cannot
    be written (a full disk) is said once, where somebody may still read.

    Args:
        path: the file; its folder exists.
        show: shows a text; None: nothing is shown.
    """

    def __init__(self, path: Path, show: Say) -> None:
        self.path = path
        self._show: Say | None = show
        self._writable = True

    def __call__(self, text: str) -> None:
        """Show a text and write it down."""
        self.write(text)
        self._shown(text)

    def write(self, text: str) -> None:
        """Write a text down without showing it."""
        if not self._writable:
            return
        try:
            with self.path.open("a", encoding="utf-8") as stream:
                stream.write(f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} {text}\n")
        except OSError as error:
            self._writable = False
            self._shown(f"{self.path}: cannot be written ({error.strerror}); what follows is shown alone")

    def _shown(self, text: str) -> None:
        if self._show is None:
            return
        try:
            self._show(text)
        except (OSError, ValueError) as error:
            if isinstance(error, UnicodeError):
                raise
            self._show = None
            self.write(f"nobody reads what is shown any more ({error}); it goes on here")

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Write down what ends the body early, which may have nobody left to read it elsewhere."""
        try:
            yield
        except UserError as error:
            self.write(f"error: {error}")
            raise
        except BaseException:
            self.write(f"ended by an error:\n{traceback.format_exc()}")
            raise

    def begin(self, command: str, version: str, *, shown: bool = True) -> None:
        """Write what runs, and say where the log is (``shown``)."""
        if is_incomplete(self.path):  # its writer was killed
            self.write("")
        self.write(f"{command}  (stdcl {version}, Python {sys.version.split()[0]})")
        if shown:
            self._shown(f"log: {self.path}")
