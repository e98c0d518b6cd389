"""A search's study in a browser, by ``optuna-dashboard``, on this machine's loopback address."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from stdcl.config.sweep import Sweep, load_sweep
from stdcl.errors import UserError
from stdcl.results.layout import SweepFolder
from stdcl.sweep.storage import open_storage, study_file

HOST = "127.0.0.1"
MISSING = "pip install 'stdcl[dashboard]' shows the search's study beside it (optuna-dashboard)"


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing per request."""


def search_of(folder: SweepFolder) -> Sweep | None:
    """Return a search that has a study; None for another sweep, and for a file that cannot be read any more."""
    try:
        sweep = load_sweep(folder.sweep_file, saved=True)
    except UserError:
        return None
    config = sweep.config
    there = config.search == "optuna" and study_file(config.search_settings, folder.study).is_file()
    return sweep if there else None


@contextmanager
def study_page(directory: Path, port: int = 0) -> Iterator[str]:
    """Serve a search's study for the body; gives its address, or why there is none. Empty for what is no search.

    Args:
        directory: the sweep's folder.
        port: 0 takes a free one.

    Raises:
        UserError: the port is taken, or the study cannot be opened.
    """
    folder = SweepFolder(directory)
    sweep = search_of(folder)
    if sweep is None:
        yield ""
        return
    try:
        from optuna_dashboard import wsgi
    except ImportError:
        yield MISSING
        return
    storage, _ = open_storage(sweep.config.search_settings, folder.study)
    try:
        server = make_server(HOST, port, wsgi(storage), server_class=_Server, handler_class=_Quiet)
    except OSError as error:
        raise UserError(f"port {port} of {HOST}: {error.strerror}; choose another with --port") from None
    thread = threading.Thread(target=server.serve_forever, name="study-page", daemon=True)
    thread.start()
    try:
        yield f"http://{HOST}:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
