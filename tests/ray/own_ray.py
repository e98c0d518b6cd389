"""A Ray cluster of one node on this machine, as a user starts it, with resources that are declared only."""

from __future__ import annotations

import re
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from stdcl.launch.cluster import OBJECT_STORE_BYTES
from tests.ray.conftest import bare_environment

START = "import sys; from ray.scripts.scripts import main; sys.argv[0] = 'ray'; main()"

AT_ONCE = {"RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0"}
"""A head that is told to end does not wait for whom it serves."""


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


@contextmanager
def own_ray(gpus: int, cpus: int) -> Iterator[Mapping[str, str]]:
    """Start a head that demands a token, in a folder and on ports of its own, and end it; yield who joins it needs.

    Args:
        gpus: that it declares; none of them need exist.
        cpus: that it declares.
    """
    folder = Path(tempfile.mkdtemp(prefix="ray-"))  # a test's own folder is too long for Ray's sockets
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    options = {
        "port": 0, "ray-client-server-port": _free_port(), "dashboard-port": 0, "dashboard-host": "127.0.0.1",
        "num-cpus": cpus, "num-gpus": gpus, "object-store-memory": OBJECT_STORE_BYTES, "temp-dir": folder,
    }  # fmt: skip
    with (
        (folder / "start.log").open("w") as log,
        subprocess.Popen(
            [sys.executable, "-P", "-c", START, "start", "--head", "--block", "--disable-usage-stats",
             *(f"--{key}={value}" for key, value in options.items())],
            stdout=subprocess.PIPE, stderr=log, text=True, env={**bare_environment(), **token, **AT_ONCE},
        ) as head,
    ):  # fmt: skip
        try:
            assert head.stdout is not None
            seen = ""
            for line in head.stdout:
                seen += line
                if found := re.search(r"ray start --address='([^']+)'", line):
                    break
            else:
                raise AssertionError(f"ray start did not come up:\n{seen}\n{(folder / 'start.log').read_text()}")
            yield {**token, "RAY_ADDRESS": found[1]}
        finally:
            head.terminate()
            head.communicate()
            shutil.rmtree(folder, ignore_errors=True)
