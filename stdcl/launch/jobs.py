"""Sweeps as jobs of a running Ray cluster: its Jobs API, as ``ray job submit`` uses it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stdcl.errors import UserError

LABEL = "stdcl_sweep"
"""Key of a job's metadata: the sweep's name."""

STOP_SECONDS = 60
"""What a driver is given to stop its trials in order (Ray's own: 3)."""

_ADDRESS = "Give the address of the cluster's dashboard, as in --address http://HEAD:8265, or --cluster FILE"

_TALKATIVE = (
    "ray.dashboard.modules.dashboard_sdk",
    "ray.dashboard.modules.job.sdk",
    "ray._private.runtime_env.packaging",
)
"""Loggers that tell what is uploaded and when a connection is closed."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class Submitted:
    """A job that runs, or waits to run."""

    id: str
    entrypoint: str


class JobServer:
    """The dashboard of a cluster, where jobs are submitted.

    Args:
        address: ``http://HOST:PORT``; ``auto`` for the cluster of this machine.

    Raises:
        UserError: nothing answers there, or it refuses us.
    """

    def __init__(self, address: str) -> None:
        from ray.job_submission import JobSubmissionClient

        if address != "auto" and not address.startswith(("http://", "https://")):
            raise UserError(f"--address {address}: no address of a dashboard. {_ADDRESS}")
        for name in _TALKATIVE:
            logging.getLogger(name).setLevel(logging.WARNING)
        self.address = address
        with _said(address):
            self._client: Any = JobSubmissionClient(address)

    def running(self, sweep: str) -> Submitted | None:
        """Return the job of a sweep that has not ended; None if there is none."""
        with _said(self.address):
            jobs = self._client.list_jobs()
        for job in jobs:
            if (job.metadata or {}).get(LABEL) == sweep and not job.status.is_terminal():
                return Submitted(job.submission_id, job.entrypoint)
        return None

    def submit(self, sweep: str, entrypoint: str, files: Path | None) -> str:
        """Submit a job; return its id, ``SWEEP-1`` or the next number.

        Args:
            sweep: its name.
            entrypoint: the command.
            files: a folder to be uploaded, which is the command's current folder there; None for none.
        """
        environment: dict[str, Any] = {"env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": str(STOP_SECONDS)}}
        if files is not None:
            environment["working_dir"] = str(files)
        with _said(self.address):
            used = {job.submission_id for job in self._client.list_jobs()}
            number = next(n for n in range(1, len(used) + 2) if f"{sweep}-{n}" not in used)
            found: str = self._client.submit_job(
                entrypoint=entrypoint, submission_id=f"{sweep}-{number}", metadata={LABEL: sweep},
                runtime_env=environment,
            )  # fmt: skip
        return found

    def show(self, job: str, say: Say, *, until: str = "", seconds: float | None = None) -> bool:
        """Show what a job prints, until it ends or has printed ``until``; return whether it lives or has succeeded.

        Args:
            job: its id.
            say: takes each line.
            until: where to stop; empty to stay to the end.
            seconds: how long to stay at most.
        """
        try:
            asyncio.run(asyncio.wait_for(self._show(job, say, until), seconds))
        except TimeoutError:
            say(f"nothing further within {seconds:g} s")
        with _said(self.address):
            status = self._client.get_job_status(job)
        return not status.is_terminal() or str(status) == "SUCCEEDED"

    async def _show(self, job: str, say: Say, until: str) -> None:
        rest = ""
        async for text in self._client.tail_job_logs(job):
            *lines, rest = (rest + text).split("\n")
            for line in lines:
                say(line)
                if until and until in line:
                    return
        if rest:
            say(rest)


@contextmanager
def _said(address: str) -> Iterator[None]:
    """Turn what Ray raises for a cluster that cannot be reached, or that refuses us, into a sentence."""
    from ray.exceptions import AuthenticationError

    try:
        yield
    except AuthenticationError:
        raise UserError(
            f"{address}: the cluster refuses us. Its token must be in ~/.ray/auth_token or $RAY_AUTH_TOKEN of this "
            "machine, with RAY_AUTH_MODE=token set"
        ) from None
    except (ConnectionError, TimeoutError) as error:
        said = str(error).splitlines()[0]
        raise UserError(f"{address}: no dashboard of Ray answers there ({said}). {_ADDRESS}") from None
    except RuntimeError as error:
        raise UserError(f"{address}: {str(error).splitlines()[0]}") from None
