"""Weights & Biases as one sink: one run per trial, and one run per sweep for its table and figure.

The training thread only puts rows on a queue. A thread of the sink makes every call to ``wandb``, so that a service
that is slow, unreachable or broken costs the training nothing while it runs, and at most
``WandbSettings.finish_seconds`` when it ends (a minute more where not the server but this machine is slow). What could
not be sent stays on the disk, for ``wandb sync``.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

from stdcl.results.history import read_history
from stdcl.results.row import EpochRow
from stdcl.results.state import Ending
from stdcl.tracking import wandb_identity
from stdcl.tracking.wandb_settings import WandbSettings, own_environment, resolve_mode, unreachable

_log = logging.getLogger(__name__)

_T = TypeVar("_T")

_PROBE_SECONDS = 5.0
# wandb.init keeps to its own time limit, more or less; this much longer is taken for a hang.
_INIT_GRACE_SECONDS = 5.0
# More patience at the end of a run that waits for this machine alone, which may be very busy, and not for a server.
_LOCAL_SECONDS = 60.0


class WandbSink:
    """One trial as one W&B run (job type ``train``), grouped by sweep; the epoch is the axis of every metric.

    A resumed run is complete wherever it is: what the server or the offline file lacks of earlier epochs is logged
    again from the history, and offline files of earlier attempts are moved aside, so that one folder is left to sync.

    Args:
        settings: where runs go.
        sweep: the sweep's name (the group); for a training outside a sweep, its own name.
        key: the trial's key within the sweep.
        directory: the trial's folder; the run's files go to ``directory/wandb``.
        history: the trial's history file.
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
        history: Path | None = None,
        name: str | None = None,
        tags: Sequence[str] = (),
    ) -> None:
        self._settings = settings
        self._sweep, self._key = sweep, key
        self._shown = {"name": name or key, "group": sweep, "job_type": "train", "tags": list(tags) or None}
        self._directory = directory
        self._history = history
        self._session: _Session | None = None
        self._notices: queue.SimpleQueue[str] = queue.SimpleQueue()

    def start(self, config: Mapping[str, Any], info: Mapping[str, Any]) -> None:
        """See ``Sink.start``: opens or continues the run, in the background."""
        if self._settings.mode == "disabled":
            return
        identity = wandb_identity.run_id(
            self._directory,
            (str(info.get("fingerprint")), str(info.get("seed"))),
            first_release=(self._sweep, self._key),
        )
        facts = {name: value for name, value in info.items() if name != "epochs_before"}
        before = int(info.get("epochs_before", 0))
        self._session = _Session(
            self._settings,
            {"id": identity, **self._shown},
            self._directory,
            {**config, "trial": facts},
            self._notices.put,
            earlier=lambda: self._rows_of(before),
        )

    def _rows_of(self, epochs: int) -> list[EpochRow]:
        """The rows of the first so many epochs."""
        if self._history is None or epochs == 0:
            return []
        return [row for row in read_history(self._history) if row["epoch"] <= epochs]

    def log_epoch(self, row: Mapping[str, Any], epoch: int) -> None:
        """See ``Sink.log_epoch``. The step is the epoch too, so that a resumed run continues its axis."""
        if self._session is not None:
            self._session.do(lambda run: _log_row(run, row, epoch))

    def finish(self, summary: Mapping[str, Any], status: Ending) -> None:
        """See ``Sink.finish``: waits for the last numbers, at most ``finish_seconds``."""
        if self._session is not None:
            values = {**summary, "status": status}
            self._session.do(lambda run: run.summary.update(values))
            self._session.close(exit_code=1 if status == "failed" else 0)
            self._session = None

    def take_notices(self) -> list[str]:
        """See ``Sink.take_notices``."""
        found = []
        while not self._notices.empty():
            found.append(self._notices.get())
        return found


def _log_row(run: Any, row: Mapping[str, Any], epoch: int) -> None:
    run.log({name: value for name, value in row.items() if value is not None} | {"epoch": epoch}, step=epoch)


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

    Never raises for a W&B that does not work: that is said as a warning. The same table is logged once: running a
    finished sweep again adds nothing.

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
    cells = [[_cell(value) for value in row] for row in rows]
    content = json.dumps([list(columns), cells, dict(summary or {})], sort_keys=True, default=str)
    digest = hashlib.sha256(content.encode()).hexdigest()
    if wandb_identity.read_identity(directory).get("logged") == digest:
        return
    identity = {
        "id": wandb_identity.run_id(directory, (sweep,), first_release=(sweep, "")),
        "name": sweep,
        "group": sweep,
        "job_type": "sweep",
        "tags": None,
    }
    session = _Session(settings, identity, directory, config, lambda text: _log.warning("%s", text))

    def log(run: Any) -> None:
        import wandb

        media: dict[str, Any] = {"table": wandb.Table(columns=list(columns), data=cells, allow_mixed_types=True)}
        if figure is not None:
            media["figure"] = wandb.Image(str(figure))
        run.log(media)
        run.summary.update(dict(summary or {}))

    session.do(log)
    session.do(lambda run: wandb_identity.write_identity(directory, {"logged": digest}))
    session.close(exit_code=0)


class _Session:
    """One open run: a queue, and a thread that makes the calls."""

    def __init__(
        self,
        settings: WandbSettings,
        identity: Mapping[str, Any],
        directory: Path,
        config: Mapping[str, Any],
        say: Callable[[str], None],
        earlier: Callable[[], list[EpochRow]] = list,
    ) -> None:
        self._settings = settings
        self._say = say
        self._earlier = earlier
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
            self._say(
                f"W&B: run {self._identity['name']} did not end in time and is left behind; its files are in "
                f"{self._directory / 'wandb'}, `wandb sync` sends them"
            )

    def _work(self) -> None:
        try:
            run = self._open()
        except Exception as error:
            self._say(
                f"W&B: run {self._identity['name']} could not be opened ({_describe(error)}); training continues "
                "without it"
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
                    self._say(f"W&B: run {self._identity['name']}: {_describe(error)}; training continues")
                reported = True
                if isinstance(call, int):
                    return

    def _open(self) -> Any:
        """Open the run online where that works, else offline; None when W&B is disabled."""
        with own_environment():
            return self._open_here()

    def _open_here(self) -> Any:
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
                    run = self._init(wandb, "online")
                    # What the server has ends before the step that it expects next.
                    self._complete(run, first=int(run.step))
                    wandb_identity.supersede(self._directory, self._identity["id"], None)
                    return run
                except Exception as error:
                    trouble = _describe(error)
                    # The failed run still holds its id in wandb's service process: end that process.
                    _within(seconds, wandb.teardown)
                    _within(seconds, lambda: _quiet_setup(wandb))
            self._online = False
            reason = f"W&B cannot be reached ({trouble})"
            self._say(f"{reason}: run {self._identity['name']} is kept offline")
        else:
            _log.info("W&B: run %s is kept offline: %s", self._identity["name"], reason)
        run = self._init(wandb, "offline")
        folder = Path(str(run.dir)).parent
        self._complete(run, first=0)
        wandb_identity.supersede(self._directory, self._identity["id"], folder)
        _log.info("W&B: `wandb sync %s` sends it later", folder)
        return run

    def _complete(self, run: Any, first: int) -> None:
        """Log the epochs of earlier attempts, from epoch ``first``: those that the run does not have."""
        for row in self._earlier():
            if row["epoch"] >= first:
                _log_row(run, row, row["epoch"])

    def _init(self, wandb: Any, mode: Literal["online", "offline"]) -> Any:
        seconds = self._settings.init_seconds
        self._directory.mkdir(parents=True, exist_ok=True)
        known = wandb.Settings.model_fields
        options = {
            # Nothing about the machine, the command line or the source leaves with the numbers.
            # (An empty host would be filled in again.)
            "host": "-",
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
