"""The page of a running sweep: made anew at each request, for this machine alone."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from stdcl.cli.command import main
from stdcl.errors import UserError
from stdcl.report.serve import HOST, PageServer
from tests.report.sweeps import Sweep

TAU = "contrast.temperature"


@pytest.fixture
def sweep(tmp_path: Path) -> Sweep:
    made = Sweep(tmp_path / "tau", (TAU,), file={"seeds": [1]})
    made.add({TAU: 0.5}, 1, epochs_done=2)
    made.save()
    return made


@pytest.fixture
def server(sweep: Sweep) -> Iterator[PageServer]:
    with PageServer(sweep.directory, 0) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def get(server: PageServer, path: str = "/", host: str = "") -> tuple[int, str]:
    connection = http.client.HTTPConnection(HOST, server.server_address[1], timeout=60)
    try:
        connection.request("GET", path, headers={"Host": host} if host else {})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def test_the_page_follows_the_files(server: PageServer, sweep: Sweep) -> None:
    status, page = get(server)
    assert status == 200
    assert "nothing can be said yet" in page
    assert '<meta http-equiv="refresh"' in page
    sweep.add({TAU: 0.8}, 1, correct=400)
    sweep.save()
    assert "86.21" in get(server)[1]


def test_it_is_for_this_machine_and_has_one_page(server: PageServer) -> None:
    assert server.server_address[0] == "127.0.0.1"
    assert get(server, "/../../etc/passwd")[0] == 404
    assert get(server, host="evil.example:80")[0] == 403
    assert get(server, host=f"localhost:{server.server_address[1]}")[0] == 200


def test_a_folder_that_goes_away_is_said(server: PageServer, sweep: Sweep) -> None:
    (sweep.directory / "plan.json").unlink()
    status, page = get(server)
    assert status == 500
    assert "not a sweep" in page


def test_what_cannot_be_served_is_refused(server: PageServer, sweep: Sweep, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="choose another with --port"):
        PageServer(sweep.directory, server.server_address[1])
    assert main(["dashboard", str(sweep.directory)]) == 2
    assert main(["dashboard", str(tmp_path / "none"), "--local"]) == 2
