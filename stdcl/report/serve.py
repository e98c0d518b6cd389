"""The page of a sweep that still runs, on this machine's loopback address, made anew from its files."""

from __future__ import annotations

from html import escape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from stdcl.errors import UserError
from stdcl.report.load import load_sweep_state
from stdcl.report.page import render
from stdcl.report.paper import papers_of
from stdcl.report.table import build_table

HOST = "127.0.0.1"
REFRESH = 15
"""Seconds after which a browser asks again."""


class PageServer(ThreadingHTTPServer):
    """Serves one sweep's page at ``/``.

    Args:
        directory: the sweep's folder.
        port: 0 takes a free one.

    Raises:
        UserError: the folder is no sweep's, or the port is taken.
    """

    daemon_threads = True

    def __init__(self, directory: Path, port: int) -> None:
        load_sweep_state(directory)
        self.directory = directory
        try:
            super().__init__((HOST, port), _Handler)
        except OSError as error:
            raise UserError(f"port {port} of {HOST}: {error.strerror}; choose another with --port") from None

    @property
    def address(self) -> str:
        """What a browser opens."""
        return f"http://{HOST}:{self.server_address[1]}/"


class _Handler(BaseHTTPRequestHandler):
    server: PageServer

    def do_GET(self) -> None:
        """Answer with the page as the files are now."""
        name = (self.headers.get("Host") or "").rpartition(":")[0]
        if name not in (HOST, "localhost"):  # another site's name that was made to lead here
            self._answer(403, "only for this machine")
        elif self.path.partition("?")[0] != "/":
            self._answer(404, "there is one page, /")
        else:
            try:
                state = load_sweep_state(self.server.directory)
                paper = papers_of([state]).get(state.directory)
                page = render(build_table(state), self.server.directory, paper, refresh=REFRESH)
            except UserError as error:  # for example while its folder is removed
                self._answer(500, str(error))
            else:
                self._send(200, page)

    def _answer(self, status: int, text: str) -> None:
        self._send(status, f"<!doctype html><title>stdcl</title><p>{escape(text)}</p>")

    def _send(self, status: int, page: str) -> None:
        data = page.encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Say nothing per request."""
