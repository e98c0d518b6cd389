"""Standard streams that outlive their readers, and show what their encoding can.

Whatever reads the output (``head``, ``tee``, a terminal over ssh) can go away before the work is done. That never ends
the work: what is still printed goes nowhere, and the exit code says how the work ended.
"""

from __future__ import annotations

import codecs
import errno
import io
import os
import shutil
import signal
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO, cast

_READER_GONE = (errno.EPIPE, errno.EIO, errno.ENXIO, errno.EBADF)
"""Closed pipe, hung-up terminal, no device, closed descriptor."""

_PLAIN = {"±": "+/-", "–": "-", "—": "-", "−": "-", "×": "x", "…": "...", "µ": "u", "≥": ">=", "≤": "<=", "·": "*"}
_PLAIN_HANDLER = "stdcl-plain"


class OutlivingStream:
    """A text stream whose writes never fail.

    Args:
        stream: what is written to; after the first failure its descriptor leads to the null device, so that what other
            code and child processes write there goes nowhere as well.

    Attributes:
        error: why a write failed although somebody was there to read; None otherwise.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.error: OSError | None = None

    def write(self, text: str) -> int:
        """Write, or drop."""
        try:
            return self._stream.write(text)
        except (OSError, ValueError) as error:
            self._lost(error)
            return len(text)

    def flush(self) -> None:
        """Flush, or drop."""
        try:
            self._stream.flush()
        except (OSError, ValueError) as error:
            self._lost(error)

    def _lost(self, error: OSError | ValueError) -> None:
        if isinstance(error, ValueError):  # closed in this process
            return
        if error.errno not in _READER_GONE:
            self.error = self.error or error
        try:
            descriptor = self._stream.fileno()
        except (OSError, ValueError, io.UnsupportedOperation):
            return
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, descriptor)
        os.close(null)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class Streams:
    """Standard output and standard error."""

    def __init__(self) -> None:
        self.out = OutlivingStream(sys.stdout)
        self.err = OutlivingStream(sys.stderr)

    def incomplete(self) -> bool:
        """Whether output was lost to anything but a reader that went away, such as a full disk; says so."""
        self.out.flush()
        if self.out.error is not None:
            print(f"error: standard output is incomplete: {self.out.error.strerror}", file=sys.stderr)
        return self.out.error is not None


@contextmanager
def outliving_streams() -> Iterator[Streams]:
    """Replace ``sys.stdout`` and ``sys.stderr`` while the body runs."""
    _open_closed_descriptors()
    _encode_plainly()
    before = sys.stdout, sys.stderr
    streams = Streams()
    sys.stdout, sys.stderr = cast(TextIO, streams.out), cast(TextIO, streams.err)
    try:
        yield streams
    finally:
        streams.out.flush()
        streams.err.flush()
        sys.stdout, sys.stderr = before


def _open_closed_descriptors() -> None:
    """Open the null device where a standard descriptor was closed (``2>&-``): no other file takes its number then."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            null = os.open(os.devnull, os.O_RDWR)
            if null != number:
                os.dup2(null, number)
                os.close(null)
            os.set_inheritable(number, True)
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, mode, closefd=False))


def _encode_plainly() -> None:
    """Print what an encoding lacks as ASCII (``+/-`` for the plus-minus sign), instead of failing."""
    codecs.register_error(_PLAIN_HANDLER, _plain)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and not codecs.lookup(stream.encoding).name.startswith("utf"):
            stream.reconfigure(errors=_PLAIN_HANDLER)


def _plain(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(_PLAIN.get(char, "?") for char in error.object[error.start : error.end]), error.end


def outlive_terminal() -> None:
    """Let this process, and those it starts from now on, survive the end of the terminal (SIGHUP), as nohup does."""
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) == signal.SIG_DFL:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)


def terminal_width() -> int:
    """Characters of a line: the terminal's, or 80 where the output is no terminal."""
    return max(80, shutil.get_terminal_size().columns) if sys.stdout.isatty() else 80


def wrapped(text: str, width: int) -> str:
    """Return lines of prose within a width; what is broken goes on two columns further in than it began."""

    def lines(line: str) -> list[str]:
        further = " " * (len(line) - len(line.lstrip()) + 2)
        return textwrap.wrap(line, width, subsequent_indent=further, break_long_words=False, break_on_hyphens=False)

    return "\n".join("\n".join(lines(line)) for line in text.splitlines())
