"""An address of a cluster is asked before Ray waits for it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest

from stdcl.doctor.machine import examine
from stdcl.errors import UserError
from stdcl.launch import address as addresses
from stdcl.launch.address import probe, split_address
from stdcl.launch.cluster import connected
from tests.launch.test_cluster import resources

SETTINGS = bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))

Serve = Callable[[bytes | None], str]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Give a server's address: it sends these bytes to who connects, then hangs up; with None it stays silent."""
    ended = threading.Event()
    threads, sockets = [], []

    def begin(answer: bytes | None) -> str:
        server = socket.create_server(("127.0.0.1", 0))
        sockets.append(server)

        def work() -> None:
            connection, _ = server.accept()
            with closing(connection):
                connection.recv(64)
                if answer is None:
                    ended.wait()
                else:
                    connection.sendall(answer)

        threads.append(threading.Thread(target=work))
        threads[-1].start()
        return f"127.0.0.1:{server.getsockname()[1]}"

    yield begin
    ended.set()
    for thread in threads:
        thread.join()
    for server in sockets:
        server.close()


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("auto", None),
        ("head:6379", ("head", 6379)),
        ("10.0.0.1:6379", ("10.0.0.1", 6379)),
        ("[fd00::1]:6379", ("fd00::1", 6379)),
    ],
)
def test_addresses(address: str, expected: tuple[str, int] | None) -> None:
    assert split_address(address) == expected


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("foo", "no address of a Ray cluster"),
        ("foo:", "no address of a Ray cluster"),
        (":6379", "no address of a Ray cluster"),
        ("foo:bar", "no address of a Ray cluster"),
        ("foo:99999", "no address of a Ray cluster"),
        ("me@foo:6379", "no address of a Ray cluster"),
        ("foo bar:6379", "no address of a Ray cluster"),
        ("local", "no address of a Ray cluster"),
        ("ray://head:10001", "Ray Client"),
        ("http://head:8265", "ray job submit"),
        ("https://head:8265", "ray job submit"),
    ],
)
def test_what_is_none_is_refused_with_what_is_allowed(address: str, said: str) -> None:
    with pytest.raises(UserError, match=said) as caught:
        split_address(address)
    assert f"RAY_ADDRESS={address}" in str(caught.value)
    assert "RAY_ADDRESS is HOST:PORT" in str(caught.value)


def test_a_head_answers(serve: Serve) -> None:
    probe(serve(SETTINGS))
    probe("auto")


def test_what_is_not_a_head_is_told_apart(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    for answer in (b"SSH-2.0-OpenSSH\r\n", b"HTTP/1.1 400 Bad Request\r\n\r\n", b""):
        with pytest.raises(UserError, match="what answers there is not Ray's head"):
            probe(serve(answer))
    with pytest.raises(UserError, match=r"no Ray cluster answers there within 0\.2 s"):
        probe(serve(None), seconds=0.2)
    monkeypatch.setenv("RAY_USE_TLS", "1")
    probe(serve(b""))


def _dead() -> str:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        return f"127.0.0.1:{server.getsockname()[1]}"


def test_a_dead_head_is_said_before_ray_waits_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(**given: object) -> None:
        raise AssertionError("Ray would wait for minutes")

    monkeypatch.setattr("ray.init", never)
    monkeypatch.setenv("RAY_ADDRESS", _dead())
    with pytest.raises(UserError, match=r"no Ray cluster answers there \(Connection refused\)"), connected(resources()):
        pass
    found = [each for each in examine() if each.what == "cluster" and "RAY_ADDRESS" in each.text]
    assert [(each.state, "no Ray cluster answers there" in each.text) for each in found] == [("bad", True)]


def test_a_name_that_does_not_resolve(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*given: object, **more: object) -> socket.socket:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(addresses.socket, "create_connection", unknown)
    with pytest.raises(UserError, match="Name or service not known"):
        probe("no.such.host:6379")
