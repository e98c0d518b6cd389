"""The interface that a rank uses: that of the address by which Ray knows its node."""

from __future__ import annotations

import os

import pytest

from stdcl.launch import network
from stdcl.launch.network import choose_interface, interface_of

MACHINE = {
    "lo": ["127.0.0.1", "::1", "00:00:00:00:00:00"],
    "eth0": ["192.168.1.7", "fe80::f0f2:12ff:fe94:a17b%eth0", "f2:f2:12:94:a1:7b"],
    "ib0": ["10.77.0.1", "fd00::1:2", "00:11:22:33:44:55"],
}


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("10.77.0.1", "ib0"),
        ("192.168.1.7", "eth0"),
        ("127.0.0.1", "lo"),
        ("127.0.1.1", None),
        ("fd00::1:2", "ib0"),
        ("[fd00:0:0:0:0:0:1:2]", "ib0"),
        ("FD00::0001:0002", "ib0"),
        ("::ffff:10.77.0.1", "ib0"),
        ("fe80::f0f2:12ff:fe94:a17b", "eth0"),
        ("203.0.113.9", None),
        ("head.example.org", None),
        ("", None),
    ],
)
def test_the_interface_that_has_the_address(address: str, expected: str | None) -> None:
    assert interface_of(address, MACHINE) == expected


def test_both_transports_use_it() -> None:
    environment: dict[str, str] = {"OTHER": "1"}
    assert choose_interface("10.77.0.1", MACHINE, environment) == "ib0"
    # NCCL would take "ib0" for every interface whose name begins so.
    assert environment == {"OTHER": "1", "GLOO_SOCKET_IFNAME": "ib0", "NCCL_SOCKET_IFNAME": "=ib0"}


def test_what_the_user_has_set_stays_and_an_empty_variable_is_not_set() -> None:
    environment = {"GLOO_SOCKET_IFNAME": "eth0", "NCCL_SOCKET_IFNAME": ""}
    choose_interface("10.77.0.1", MACHINE, environment)
    assert environment == {"GLOO_SOCKET_IFNAME": "eth0", "NCCL_SOCKET_IFNAME": "=ib0"}


def test_an_address_on_no_interface_changes_nothing() -> None:
    environment = {"GLOO_SOCKET_IFNAME": "eth0", "NCCL_SOCKET_IFNAME": ""}
    assert choose_interface("203.0.113.9", MACHINE, environment) is None
    assert environment == {"GLOO_SOCKET_IFNAME": "eth0"}


def test_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in network.INTERFACE_VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr("ray.util.get_node_ip_address", lambda: "127.0.0.1")
    network.use_interface_of_node()
    assert os.environ["GLOO_SOCKET_IFNAME"] == os.environ["NCCL_SOCKET_IFNAME"].removeprefix("=")
    assert os.environ["GLOO_SOCKET_IFNAME"]
