"""Where runs are sent: the configuration, the environment and the account, resolved and checked before a launch."""

from __future__ import annotations

import logging
import netrc
import os
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from stdcl.config import wandb_names
from stdcl.config.model import TrackingConfig
from stdcl.config.paths import expand
from stdcl.errors import UserError

_log = logging.getLogger(__name__)

Mode = Literal["auto", "online", "offline", "disabled"]

DEFAULT_PROJECT = "stdcl"

# The public service answers under both names, and an account is stored under either.
_PUBLIC_HOSTS = ("api.wandb.ai", "api.forge.coreweave.com")

_OF_ANOTHER_RUN = (
    "WANDB_ARGS", "WANDB_CONFIG", "WANDB_CONFIG_PATHS", "WANDB_DESCRIPTION", "WANDB_DIR", "WANDB_ENTITY",
    "WANDB_JOB_TYPE", "WANDB_NAME", "WANDB_PROGRAM", "WANDB_PROJECT", "WANDB_RESUME", "WANDB_RUN_DIR",
    "WANDB_RUN_GROUP", "WANDB_RUN_ID", "WANDB_RUN_STORAGE_ID", "WANDB_SERVICE", "WANDB_SWEEP_ID",
    "WANDB_SWEEP_PARAM_PATH",
)  # fmt: skip
"""Variables that name one run or its place. A process started by ``wandb agent`` or W&B Launch has them set for itself;
read by a trial they would make all trials one run."""


@dataclass(frozen=True)
class WandbSettings:
    """How runs reach W&B. The account's key never passes through here: ``wandb`` reads it from its own places.

    Attributes:
        project: the project that the runs belong to.
        entity: user or team; None = the account's default.
        mode: ``auto`` = what ``WANDB_MODE`` says, else online with an account and offline without; ``disabled``
            does not even import ``wandb``.
        init_seconds: longest wait for a run to be opened, in the background; then it is opened offline.
        finish_seconds: longest wait for the last numbers to arrive at the server when a run ends.
    """

    project: str
    entity: str | None = None
    mode: Mode = "auto"
    init_seconds: float = 15.0
    finish_seconds: float = 20.0


def settings_of(tracking: TrackingConfig, environment: Mapping[str, str] = os.environ) -> WandbSettings:
    """Resolve a configuration's tracking section: what it leaves open, W&B's own variables decide.

    Raises:
        UserError: a variable holds a name that W&B would refuse.
    """
    project, entity = tracking.project, tracking.entity
    if project is None:
        project = _named(environment, "WANDB_PROJECT", "project") or DEFAULT_PROJECT
    if entity is None:
        entity = _named(environment, "WANDB_ENTITY", "entity")
    mode: Mode = tracking.wandb
    if mode == "auto" and environment.get("WANDB_DISABLED", "").strip().lower() in ("true", "1", "yes", "y", "on", "t"):
        mode = "disabled"
    return WandbSettings(project=project, entity=entity, mode=mode)


def _named(environment: Mapping[str, str], variable: str, what: str) -> str | None:
    value = environment.get(variable)
    if not value:
        return None
    fault = wandb_names.fault(value, what)
    if fault:
        raise UserError(f"{variable}={value}: {fault}; unset it, or give tracking.{what}")
    return value


def check(settings: WandbSettings, environment: Mapping[str, str] = os.environ) -> None:
    """Refuse what no trial could be tracked with, before any is launched.

    Raises:
        UserError: ``online`` without an account, or a W&B variable that ``wandb`` cannot read.
    """
    if settings.mode == "disabled":
        return
    if settings.mode == "online" and not has_account(environment=environment):
        raise UserError(
            "tracking.wandb is online, but this machine has no W&B account: run 'wandb login', set WANDB_API_KEY, or "
            "keep the runs on the disk with --set tracking.wandb=offline"
        )
    ours = {key: value for key, value in environment.items() if key.startswith("WANDB_")}
    if not ours:
        return
    import wandb

    for key, value in sorted(ours.items()):
        if key in _OF_ANOTHER_RUN:
            continue
        try:
            wandb.Settings().update_from_env_vars({key: value})
        except Exception as error:
            reason = " ".join(str(error).split())
            raise UserError(f"{key}={_shown(key, value)}: wandb cannot read it ({reason[:200]}); unset it") from None


def _shown(variable: str, value: str) -> str:
    return "..." if "KEY" in variable or "TOKEN" in variable else value


@contextmanager
def own_environment() -> Iterator[None]:
    """Hide the variables that belong to another run while ``wandb`` reads the environment."""
    hidden = {key: os.environ.pop(key) for key in _foreign(os.environ)}
    try:
        yield
    finally:
        os.environ.update(hidden)


def _foreign(environment: Mapping[str, str]) -> list[str]:
    return [key for key in environment if key in _OF_ANOTHER_RUN or key.startswith("WANDB_LAUNCH")]


def has_account(base_url: str | None = None, environment: Mapping[str, str] = os.environ) -> bool:
    """Whether this machine has a W&B account for a server: a key, an identity token, or an entry in the netrc file.

    The key itself is neither returned nor kept.

    Args:
        base_url: the server; by default the one of ``WANDB_BASE_URL``, else the public service.
        environment: the environment's variables.
    """
    base_url = base_url or environment.get("WANDB_BASE_URL") or f"https://{_PUBLIC_HOSTS[0]}"
    if environment.get("WANDB_API_KEY") or environment.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    if environment.get("NETRC"):
        candidates = [Path(environment["NETRC"])]
    else:
        try:
            candidates = [expand(name, "the account file", environment) for name in ("~/.netrc", "~/_netrc")]
        except UserError:  # no home folder, so no such file
            candidates = []
    host = urlsplit(base_url).netloc
    hosts = _PUBLIC_HOSTS if host in _PUBLIC_HOSTS else (host,)
    for path in candidates:
        if not path.exists():
            continue
        try:
            entries = netrc.netrc(str(path)).hosts
        except (netrc.NetrcParseError, OSError) as error:
            _log.warning("W&B: the account file %s cannot be read (%s)", path, type(error).__name__)
            continue
        if any(name in entries and entries[name][2] for name in hosts):
            return True
    return False


def resolve_mode(
    wanted: Mode, environment: Mapping[str, str], base_url: str
) -> tuple[Literal["online", "offline", "disabled"], str]:
    """Decide how a run is opened, and why (a clause for the log). Without an account, never online: no prompt."""
    reason = ""
    if wanted == "auto":
        asked = environment.get("WANDB_MODE", "").strip().lower()
        if asked in ("disabled", "offline", "dryrun"):
            return ("disabled" if asked == "disabled" else "offline"), f"WANDB_MODE is {asked}"
    elif wanted != "online":
        return wanted, f"the configuration says {wanted}"
    if not has_account(base_url, environment):
        return "offline", "no account was found (WANDB_API_KEY or `wandb login`)"
    return "online", reason


def unreachable(base_url: str, seconds: float) -> str | None:
    """Why a server cannot be used now, or None when it answers within a time, with anything but a fault of its own.

    Proxies are honoured.
    """
    try:
        with urllib.request.urlopen(base_url, timeout=seconds):
            return None
    except urllib.error.HTTPError as error:
        error.close()
        return None if error.code < 500 else f"{urlsplit(base_url).netloc}: HTTP status {error.code}"
    except (urllib.error.URLError, OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        if isinstance(reason, ssl.SSLError):  # another trust store than wandb's own: leave the judgement to it
            return None
        return f"{urlsplit(base_url).netloc}: {reason}"
