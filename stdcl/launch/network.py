"""The network interface that a rank uses to reach the others: the one that carries its node's address in Ray.

Gloo listens on the address that the host name resolves to. Debian's default /etc/hosts resolves it to 127.0.1.1, which
other machines cannot reach, and some host names do not resolve at all. NCCL takes the first interface that looks
usable. Ray's nodes already reach each other by the addresses that they registered, so the same interface serves the
ranks.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterable, Mapping, MutableMapping

INTERFACE_VARIABLES = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")
"""Name the interface for each transport."""

NCCL_EXACT = "="
"""NCCL reads a plain name as a prefix (``eth1`` would include ``eth10``)."""


def interface_of(address: str, addresses: Mapping[str, Iterable[str]]) -> str | None:
    """Return the name of the interface that has an address, None if there is none.

    Args:
        address: an IPv4 or IPv6 address, in any spelling.
        addresses: of each interface, its addresses of any family (``fe80::1%eth0`` and hardware addresses included).
    """
    wanted = _parse(address)
    if wanted is None:
        return None
    return next((name for name, own in addresses.items() if wanted in map(_parse, own)), None)


def _parse(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        found = ipaddress.ip_address(address.strip("[]").partition("%")[0])
    except ValueError:
        return None
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return mapped or found


def choose_interface(
    address: str, addresses: Mapping[str, Iterable[str]], environment: MutableMapping[str, str]
) -> str | None:
    """Set ``INTERFACE_VARIABLES`` that are missing or empty to the interface of ``address``; return its name.

    If no interface has the address (a node behind address translation), missing variables stay missing.
    """
    name = interface_of(address, addresses)
    for variable in INTERFACE_VARIABLES:
        if environment.get(variable):
            continue
        if name is not None:
            environment[variable] = f"{NCCL_EXACT}{name}" if variable.startswith("NCCL_") else name
        else:
            environment.pop(variable, None)  # gloo takes an empty name for the name of an interface
    return name


def use_interface_of_node() -> None:
    """Choose this process's interface by the address under which Ray knows its node."""
    import psutil
    import ray.util

    own = {name: [entry.address for entry in entries] for name, entries in psutil.net_if_addrs().items()}
    choose_interface(ray.util.get_node_ip_address(), own, os.environ)
