"""Weights & Biases as one sink: one run a trial, and one run a sweep for its table and figure.

The training thread only puts rows on a queue. A thread of the sink makes every call to ``wandb``, so that a service
that is slow, unreachable or broken costs the training nothing while it runs, and at most
``WandbSettings.finish_seconds`` when it ends (a minute more where not the server but this machine is slow). What could
not be sent stays on the disk, for ``wandb sync``.
"""

from __future__ import annotations

import hashlib
import logging
import math
import netrc
import os
import queue
import ssl
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar
from urllib.parse import urlsplit

_log = logging.getLogger(__name__)

Mode = Literal["auto", "online", "offline", "disabled"]
_T = TypeVar("_T")

# The public service answers under both names, and an account is stored under either.
_PUBLIC_HOSTS = ("api.wandb.ai", "api.forge.coreweave.com")
_PROBE_SECONDS = 5.0
# wandb.init keeps to its own time limit, more or less; this much longer is taken for a hang.
_INIT_GRACE_SECONDS = 5.0
# More patience at the end of a run that waits for this machine alone, which may be very busy, and not for a server.
_LOCAL_SECONDS = 60.0


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


def run_id(sweep: str, key: str) -> str:
    """The W&B id of a trial: a function of sweep and trial key alone, so that a resumed trial continues its run."""
    return hashlib.sha256(f"{sweep}\0{key}".encode()).hexdigest()[:16]


class WandbSink:
    """One trial as one W&B run (job type ``train``), grouped by sweep; the epoch is the axis of every metric.

    Args:
        settings: where runs go.
        sweep: the sweep's name (the group); for a training outside a sweep, its own name.
        key: the trial's key within the sweep; together they make the run's id.
        directory: the trial's folder; the run's files go to ``directory/wandb``.
        name: the name shown; the trial's key by default.
        tags: labels of the run.
    """

    def __init__(
        self,
        settings: WandbSettings,
        *,
        sweep: str,
        key: str,
        directory: Path,
        name: str | None = None,
        tags: Sequence[str] = (),
    ) -> None:
        self._settings = settings
        self._identity = {
            "id": run_id(sweep, key),
            "name": name or key,
            "group": sweep,
            "job_type": "train",
            "tags": list(tags) or None,
        }
        self._directory = directory
        self._session: _Session | None = None

    def start(self, config: Mapping[str, Any], info: Mapping[str, Any]) -> None:
        """See ``Sink.start``: opens or continues the run, in the background."""
        if self._settings.mode == "disabled":
            return
        facts = {name: value for name, value in info.items() if name != "resume_epoch"}
        self._session = _Session(self._settings, self._identity, self._directory, {**config, "trial": facts})

    def log_epoch(self, row: Mapping[str, float | int], epoch: int) -> None:
        """See ``Sink.log_epoch``. The step is the epoch too, so a resumed run goes on where it left off."""
        if self._session is not None:
            values = {name: value for name, value in row.items() if value is not None} | {"epoch": epoch}
            self._session.do(lambda run: run.log(values, step=epoch))

    def finish(self, summary: Mapping[str, Any], status: str) -> None:
        """See ``Sink.finish``: waits for the last numbers, at most ``finish_seconds``."""
        if self._session is not None:
            values = {**summary, "status": status}
            self._session.do(lambda run: run.summary.update(values))
            self._session.close(exit_code=1 if status == "failed" else 0)
            self._session = None


def log_sweep_summary(
    settings: WandbSettings,
    *,
    sweep: str,
    directory: Path,
    config: Mapping[str, Any],
    columns: Sequence[str],
    rows: Sequence[Sequence[Any]],
    figure: Path | None = None,
    summary: Mapping[str, Any] | None = None,
) -> None:
    """Log a sweep's final table and figure as a run of its own (job type ``sweep``) in the sweep's group.

    Never raises for a W&B that does not work: that is said as a warning.

    Args:
        settings: where the run goes.
        sweep: the sweep's name, which is also the group of its trials.
        directory: the sweep's folder; the run's files go to ``directory/wandb``.
        config: the resolved sweep file.
        columns: the table's columns.
        rows: the table's rows; each value a string, number, boolean or None.
        figure: a PNG file.
        summary: further numbers of the sweep.
    """
    if settings.mode == "disabled":
        return
    identity = {"id": run_id(sweep, ""), "name": sweep, "group": sweep, "job_type": "sweep", "tags": None}
    session = _Session(settings, identity, directory, config)

    def log(run: Any) -> None:
        import wandb

        cells = [[_cell(value) for value in row] for row in rows]
        media: dict[str, Any] = {"table": wandb.Table(columns=list(columns), data=cells, allow_mixed_types=True)}
        if figure is not None:
            media["figure"] = wandb.Image(str(figure))
        run.log(media)
        run.summary.update(dict(summary or {}))

    session.do(log)
    session.close(exit_code=0)


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
    home = Path(environment.get("HOME") or Path.home())
    candidates = [Path(environment["NETRC"])] if environment.get("NETRC") else [home / ".netrc", home / "_netrc"]
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


class _Session:
    """One open run: a queue, and a thread that makes the calls."""

    def __init__(
        self,
        settings: WandbSettings,
        identity: Mapping[str, Any],
        directory: Path,
        config: Mapping[str, Any],
    ) -> None:
        self._settings = settings
        self._identity = dict(identity)
        self._directory = directory
        self._config = dict(config)
        self._online = False
        self._calls: queue.SimpleQueue[Callable[[Any], None] | int] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="wandb-sink", daemon=True)
        self._thread.start()

    def do(self, call: Callable[[Any], None]) -> None:
        """Have the thread call ``call(run)``, later."""
        self._calls.put(call)

    def close(self, exit_code: int) -> None:
        """End the run, waiting for what is queued, at most ``finish_seconds`` for a server."""
        self._calls.put(exit_code)
        self._thread.join(self._settings.finish_seconds)
        if not self._online:
            self._thread.join(_LOCAL_SECONDS)
        if self._thread.is_alive():
            _log.warning(
                "W&B: run %s did not end in time and is left behind; its files are in %s, `wandb sync` sends them",
                self._identity["name"],
                self._directory / "wandb",
            )

    def _work(self) -> None:
        try:
            run = self._open()
        except Exception as error:
            _log.warning(
                "W&B: run %s could not be opened (%s); training goes on without it",
                self._identity["name"],
                _describe(error),
            )
            return
        if run is None:
            return
        reported = False
        while True:
            call = self._calls.get()
            try:
                if isinstance(call, int):
                    run.finish(exit_code=call)
                    _end_service()
                    return
                call(run)
            except Exception as error:
                if not reported:
                    _log.warning("W&B: run %s: %s; training goes on", self._identity["name"], _describe(error))
                reported = True
                if isinstance(call, int):
                    return

    def _open(self) -> Any:
        """Open the run online where that works, else offline; None when W&B is disabled."""
        import wandb

        seconds = self._settings.init_seconds
        base_url = str(_within(seconds, lambda: _quiet_setup(wandb)).base_url)
        mode, reason = resolve_mode(self._settings.mode, os.environ, base_url)
        if mode == "disabled":
            return None
        if mode == "online":
            self._online = True
            trouble = unreachable(base_url, _PROBE_SECONDS)
            if trouble is None:
                try:
                    return self._init(wandb, "online")
                except Exception as error:
                    trouble = _describe(error)
                    # The failed run still holds its id in wandb's service process: end that process.
                    _within(seconds, wandb.teardown)
                    _within(seconds, lambda: _quiet_setup(wandb))
            self._online = False
            reason = f"W&B cannot be reached ({trouble})"
            _log.warning("%s: run %s is kept offline", reason, self._identity["name"])
        else:
            _log.info("W&B: run %s is kept offline: %s", self._identity["name"], reason)
        run = self._init(wandb, "offline")
        _log.info("W&B: `wandb sync %s` sends it later", Path(str(run.dir)).parent)
        return run

    def _init(self, wandb: Any, mode: Literal["online", "offline"]) -> Any:
        seconds = self._settings.init_seconds
        self._directory.mkdir(parents=True, exist_ok=True)
        known = wandb.Settings.model_fields
        options = {
            # Nothing about the machine, the command line or the source leaves with the numbers.
            "x_disable_meta": True,
            "x_disable_machine_info": True,
            "x_disable_stats": True,
            "x_save_requirements": False,
            "disable_git": True,
            "disable_job_creation": True,
            "save_code": False,
            # Nothing of W&B on the console, nothing of the console at W&B.
            "silent": True,
            "console": "off",
            "symlink": False,
            "init_timeout": seconds,
            "finish_timeout": self._settings.finish_seconds,
        }
        settings = wandb.Settings(**{name: value for name, value in options.items() if name in known})
        run = _within(
            seconds + _INIT_GRACE_SECONDS,
            lambda: wandb.init(
                project=self._settings.project,
                entity=self._settings.entity,
                config=self._config,
                dir=str(self._directory),
                resume="allow",
                reinit="create_new",
                mode=mode,
                settings=settings,
                **self._identity,
            ),
        )
        run.define_metric("epoch", hidden=True)
        run.define_metric("*", step_metric="epoch")
        return run


def _quiet_setup(wandb: Any) -> Any:
    """Start wandb's library without its console messages; returns its settings (environment and files included)."""
    return wandb.setup(settings=wandb.Settings(silent=True)).settings


def _end_service() -> None:
    """Wait until wandb's service process has written everything and is gone, unless somebody else's run needs it."""
    import wandb

    if wandb.run is None:
        wandb.teardown()


def _within(seconds: float, call: Callable[[], _T]) -> _T:
    """Return ``call()``; raise TimeoutError when it takes longer (it is then left running in a daemon thread)."""
    outcome: queue.SimpleQueue[tuple[_T | None, BaseException | None]] = queue.SimpleQueue()

    def target() -> None:
        try:
            outcome.put((call(), None))
        except BaseException as error:  # also SystemExit: it must not end as an unhandled error of a thread
            outcome.put((None, error))

    threading.Thread(target=target, name="wandb-call", daemon=True).start()
    try:
        value, error = outcome.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError(f"no answer within {seconds:g} s") from None
    if error is not None:
        raise RuntimeError(_describe(error)) from error
    return value  # type: ignore[return-value]


def _describe(error: BaseException) -> str:
    """An error's first line, without the account's key."""
    text = str(error).strip().split("\n")[0]
    key = os.environ.get("WANDB_API_KEY", "")
    if key:
        text = text.replace(key, "(the key)")
    return text or type(error).__name__


def _cell(value: Any) -> str | float | int | bool | None:
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, str | float | int | bool) or value is None else str(value)
