"""Where a Ray cluster is, and whether one answers there: asked first, since Ray itself waits for minutes in silence."""

from __future__ import annotations

import os
import re
import socket
from urllib.parse import urlsplit

from stdcl.errors import UserError

SECONDS = 3.0
"""How long an address is given to answer."""

ALLOWED = "RAY_ADDRESS is HOST:PORT (usually port 6379), 'auto' for the cluster of this machine, or unset"

_HTTP2_HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
"""The preface of HTTP/2 (RFC 9113, 3.4) with an empty SETTINGS frame. A server answers with a SETTINGS frame."""
_SETTINGS = 4


def split_address(address: str) -> tuple[str, int] | None:
    """Return (host, port) of an address of a Ray cluster, None for ``auto``.

    Raises:
        UserError: it is none.
    """
    if address == "auto":
        return None
    kind, scheme, _ = address.partition("://")
    if scheme:
        why = {
            "ray": "an address of Ray Client, through which no training can be followed",
            "http": "an address of Ray's dashboard, which takes jobs: ray job submit --address",
        }.get(kind.removesuffix("s"), "no address of a Ray cluster")
        raise UserError(f"RAY_ADDRESS={address}: {why}. {ALLOWED}")
    try:
        parts = urlsplit(f"//{address}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not host or not port or re.search(r"[\s/@?#]", address):
        raise UserError(f"RAY_ADDRESS={address}: no address of a Ray cluster. {ALLOWED}")
    return host, port


def probe(address: str, seconds: float = SECONDS) -> None:
    """Ask whether something that can be Ray's head answers at an address; ``auto`` is left to Ray.

    Raises:
        UserError: nothing answers within ``seconds``, or something else than Ray.
    """
    place = split_address(address)
    if place is None:
        return
    way_out = "Start a cluster with 'ray start --head', or unset RAY_ADDRESS to use this machine alone"
    try:
        with socket.create_connection(place, timeout=seconds) as connection:
            if os.environ.get("RAY_USE_TLS") in (None, "", "0") and not _speaks_http2(connection):
                raise UserError(
                    f"RAY_ADDRESS={address}: what answers there is not Ray's head (its port is 6379 unless "
                    f"'ray start --head --port' says another). {way_out}"
                )
    except TimeoutError:
        raise UserError(
            f"RAY_ADDRESS={address}: no Ray cluster answers there within {seconds:g} s. {way_out}"
        ) from None
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(f"RAY_ADDRESS={address}: no Ray cluster answers there ({reason}). {way_out}") from None


def _speaks_http2(connection: socket.socket) -> bool:
    """Ray's head is a gRPC server, and so speaks HTTP/2."""
    connection.sendall(_HTTP2_HELLO)
    answer = b""
    while len(answer) < 4:
        part = connection.recv(16)
        if not part:
            return False
        answer += part
    return answer[3] == _SETTINGS
