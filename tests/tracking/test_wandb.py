from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from stdcl.config.model import TrackingConfig
from stdcl.errors import UserError
from stdcl.results.history import HistoryFile
from stdcl.tracking import wandb_settings
from stdcl.tracking.wandb_identity import read_identity, run_id
from stdcl.tracking.wandb_settings import WandbSettings, has_account, resolve_mode, settings_of, unreachable
from stdcl.tracking.wandb_sink import WandbSink, log_sweep_summary

PUBLIC = "https://api.wandb.ai"
SECRET = "0123456789abcdef" * 2 + "deadbeef"
ROW = {
    "loss/cross_entropy": 1.5,
    "loss/spatial": 6.2,
    "loss/temporal": 6.1,
    "accuracy": 0.75,
    "learning_rate": 0.1,
    "active_anchors": 1.0,
    "throughput": 40.0,
}
PATIENT = {"init_seconds": 60.0, "finish_seconds": 180.0}  # for a busy test machine; nothing waits that long
CONFIG: dict[str, Any] = {"contrast": {"temperature": 0.8}, "training": {"epochs": 3}}


def _sink(directory: Path, **settings: Any) -> WandbSink:
    return WandbSink(
        WandbSettings(project="stdcl-tests", **{**PATIENT, **settings}),
        sweep="ablation",
        key="tau=0.8-s1",
        directory=directory,
        history=directory / "history.jsonl",
    )


def _train(sink: WandbSink, first: int, last: int, status: str = "finished") -> list[str]:
    """Log epochs to the history and the sink, as training does; return what the user is told."""
    assert sink._history is not None
    history, info = HistoryFile(sink._history), {"seed": 1, "epochs_before": first}
    history.truncate(first)
    sink.start(CONFIG, info)
    for epoch in range(first + 1, last + 1):
        history.append({**ROW, "epoch": epoch, "accuracy": epoch / 10})
        sink.log_epoch({**ROW, "accuracy": epoch / 10}, epoch)
    sink.finish({"accuracy": last / 10}, status)
    return sink.take_notices()


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def server() -> Iterator[Callable[[bytes | None], str]]:
    """Starts a server on loopback that gives one answer to everything, or (None) accepts and never answers."""
    open_sockets: list[socket.socket] = []

    def serve(listener: socket.socket, answer: bytes | None) -> None:
        while True:
            try:
                connection, _ = listener.accept()
                open_sockets.append(connection)
                if answer is not None:
                    connection.recv(65536)
                    connection.sendall(answer)
                    connection.close()
            except OSError:
                return

    def start(answer: bytes | None) -> str:
        listener = socket.create_server(("127.0.0.1", 0))
        open_sockets.append(listener)
        threading.Thread(target=serve, args=(listener, answer), daemon=True).start()
        return f"http://127.0.0.1:{listener.getsockname()[1]}"

    yield start
    for each in open_sockets:
        each.close()


def test_the_offline_run_holds_what_was_logged(tmp_path: Path, offline_runs: Any) -> None:
    _train(_sink(tmp_path), 0, 3)
    (run,) = offline_runs(tmp_path)
    assert run.identity == {
        "id": read_identity(tmp_path)["id"],
        "name": "tau=0.8-s1",
        "group": "ablation",
        "project": "stdcl-tests",
        "entity": "",
        "job_type": "train",
    }
    assert run.config == {**CONFIG, "trial": {"seed": 1}}
    assert [row["epoch"] for row in run.history] == [1, 2, 3]
    assert [row["_step"] for row in run.history] == [1, 2, 3]
    assert [row["accuracy"] for row in run.history] == [0.1, 0.2, 0.3]
    for name, value in ROW.items():
        if name != "accuracy":
            assert [row[name] for row in run.history] == [value] * 3
    assert run.step_metrics["*"] == "epoch"
    assert run.summary["status"] == "finished"
    assert run.summary["accuracy"] == 0.3
    assert run.exit_code == 0


def test_a_resumed_run_is_complete_in_one_folder(tmp_path: Path, offline_runs: Any) -> None:
    _train(_sink(tmp_path), 0, 2, status="failed")
    (before,) = offline_runs(tmp_path)
    _train(_sink(tmp_path), 2, 4)
    (after,) = offline_runs(tmp_path)
    assert before.identity == after.identity
    assert after.exit_code == 0
    assert [row["epoch"] for row in after.history] == [1, 2, 3, 4]
    assert [row["_step"] for row in after.history] == [1, 2, 3, 4]
    assert [row["accuracy"] for row in after.history] == [0.1, 0.2, 0.3, 0.4]
    (aside,) = (tmp_path / "wandb" / "superseded").iterdir()
    assert aside.name.startswith("offline-run-")


def test_a_run_killed_before_anything_was_written_is_complete_after_it_is_resumed(
    tmp_path: Path, offline_runs: Any
) -> None:
    code = f"""
import os, signal, sys, time
from pathlib import Path
from stdcl.results.history import HistoryFile
from stdcl.tracking.wandb_settings import WandbSettings
from stdcl.tracking.wandb_sink import WandbSink
folder = Path({str(tmp_path)!r})
history = HistoryFile(folder / "history.jsonl")
sink = WandbSink(WandbSettings("p"), sweep="ablation", key="k", directory=folder, history=history.path)
history.truncate(0); sink.start({{}}, {{"seed": 1}})
for epoch in (1, 2):
    history.append({{"epoch": epoch, "accuracy": epoch / 10}}); sink.log_epoch({{"accuracy": epoch / 10}}, epoch)
while not list(folder.glob("wandb/offline-run-*/*.wandb")):
    time.sleep(0.05)
os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    _train(_sink(tmp_path), 2, 3)
    (run,) = offline_runs(tmp_path)
    assert [row["epoch"] for row in run.history] == [1, 2, 3]


def test_the_machine_is_not_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, offline_runs: Any) -> None:
    name = "a-name-that-no-random-id-contains"  # a machine may be called "vm"
    monkeypatch.setattr(socket, "gethostname", lambda: name)
    _train(_sink(tmp_path), 0, 1)
    (run,) = offline_runs(tmp_path)
    assert run.host == "-"
    assert run.environment == []
    (file,) = tmp_path.glob("wandb/offline-run-*/run-*.wandb")
    content = file.read_bytes()
    assert name.encode() not in content
    assert sys.executable.encode() not in content


def test_ids_belong_to_a_folder_and_are_kept(tmp_path: Path) -> None:
    facts = ("0123456789abcdef", "1")
    first = run_id(tmp_path / "exp1" / "model", facts)
    assert first != run_id(tmp_path / "exp2" / "model", facts)
    assert first == run_id(tmp_path / "exp1" / "model", facts)
    assert first == run_id(tmp_path / "exp1" / "model", ("changed",))


def test_a_run_of_the_first_release_keeps_its_id(tmp_path: Path) -> None:
    (tmp_path / "wandb").mkdir()
    assert run_id(tmp_path, ("f", "1"), first_release=("sweep", "trial")) == "87d37894cfbeb5ad"


@pytest.mark.parametrize(
    "variables",
    [
        {"WANDB_SWEEP_ID": "abcd1234"},
        {"WANDB_RUN_ID": "theirs"},
        {"WANDB_RUN_GROUP": "g", "WANDB_NAME": "n", "WANDB_JOB_TYPE": "j", "WANDB_RESUME": "must"},
        {"WANDB_LAUNCH": "true"},
        {"WANDB_CONFIG": '{"overrides": {}}'},
    ],
    ids=lambda value: "+".join(value),
)
def test_variables_of_another_run_do_not_reach_ours(
    variables: dict[str, str], tmp_path: Path, offline_runs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key, value in variables.items():
        monkeypatch.setenv(key, value)
    assert _train(_sink(tmp_path), 0, 1) == []
    (run,) = offline_runs(tmp_path)
    assert run.identity["id"] == read_identity(tmp_path)["id"]
    assert run.identity["group"] == "ablation"
    assert all(os.environ[key] == value for key, value in variables.items())


@pytest.mark.parametrize(
    ("given", "environment", "expected"),
    [
        ({}, {}, ("stdcl", None, "auto")),
        ({}, {"WANDB_PROJECT": "theirs", "WANDB_ENTITY": "lab"}, ("theirs", "lab", "auto")),
        ({}, {"WANDB_PROJECT": "", "WANDB_ENTITY": ""}, ("stdcl", None, "auto")),
        (
            {"project": "ours", "entity": "me"},
            {"WANDB_PROJECT": "theirs", "WANDB_ENTITY": "lab"},
            ("ours", "me", "auto"),
        ),
        ({}, {"WANDB_DISABLED": "true"}, ("stdcl", None, "disabled")),
        ({}, {"WANDB_DISABLED": "false"}, ("stdcl", None, "auto")),
        ({"wandb": "offline"}, {"WANDB_DISABLED": "true"}, ("stdcl", None, "offline")),
    ],
)
def test_what_the_configuration_leaves_open_the_environment_decides(
    given: dict[str, Any], environment: dict[str, str], expected: tuple[Any, ...]
) -> None:
    settings = settings_of(TrackingConfig(**given), environment)
    assert (settings.project, settings.entity, settings.mode) == expected


def test_bad_names_are_refused_before_a_launch() -> None:
    with pytest.raises(ValueError, match=r"tracking\.entity"):
        TrackingConfig(project="lab/skeleton")
    with pytest.raises(ValueError, match="128"):
        TrackingConfig(project="p" * 129)
    with pytest.raises(UserError, match="WANDB_PROJECT=lab/skeleton"):
        settings_of(TrackingConfig(), {"WANDB_PROJECT": "lab/skeleton"})


def test_online_without_an_account_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="wandb login"):
        wandb_settings.check(WandbSettings("p", mode="online"), {"HOME": str(tmp_path)})


def test_a_variable_that_wandb_cannot_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="WANDB_INIT_TIMEOUT=soon"):
        wandb_settings.check(WandbSettings("p", mode="offline"), {"HOME": str(tmp_path), "WANDB_INIT_TIMEOUT": "soon"})
    wandb_settings.check(WandbSettings("p", mode="offline"), {"HOME": str(tmp_path), "WANDB_INIT_TIMEOUT": "30"})


def test_nothing_is_imported_or_written_when_disabled(tmp_path: Path) -> None:
    code = f"""
import sys
from pathlib import Path
from stdcl.tracking.wandb_settings import WandbSettings
from stdcl.tracking.wandb_sink import WandbSink, log_sweep_summary
settings = WandbSettings(project="p", mode="disabled")
sink = WandbSink(settings, sweep="s", key="k", directory=Path({str(tmp_path / "run")!r}))
sink.start({{}}, {{}}); sink.log_epoch({{"loss": 1.0}}, 0); sink.finish({{}}, "finished")
log_sweep_summary(settings, sweep="s", directory=Path({str(tmp_path / "run")!r}), config={{}}, columns=[], rows=[])
assert "wandb" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)
    assert not (tmp_path / "run").exists()


def test_the_console_stays_silent(tmp_path: Path, closed_port: int) -> None:
    code = f"""
import os
from pathlib import Path
from stdcl.tracking.wandb_settings import WandbSettings
from stdcl.tracking.wandb_sink import WandbSink
for key in (None, {SECRET!r}):
    if key:
        os.environ["WANDB_API_KEY"] = key
        os.environ["WANDB_BASE_URL"] = "http://127.0.0.1:{closed_port}"
    sink = WandbSink(WandbSettings("p", finish_seconds=180.0), sweep="s", key="k", directory=Path({str(tmp_path)!r}))
    sink.start({{}}, {{}}); sink.log_epoch({{"loss": 1.0}}, 0); sink.finish({{}}, "finished")
    told = sink.take_notices()
    assert len(told) == (1 if key else 0) and all("cannot be reached" in text for text in told), told
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == ""
    assert done.stderr == ""


def test_an_unreachable_server_costs_the_training_nothing(
    tmp_path: Path, closed_port: int, offline_runs: Any, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", SECRET)
    monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{closed_port}")
    told = _train(_sink(tmp_path), 0, 3)
    (run,) = offline_runs(tmp_path)
    assert [row["epoch"] for row in run.history] == [1, 2, 3]
    assert "cannot be reached" in "".join(told)
    assert SECRET not in caplog.text + "".join(told)
    for path in tmp_path.rglob("*"):
        if path.is_file():
            assert SECRET.encode() not in path.read_bytes(), path


@pytest.mark.parametrize(
    "answer",
    [
        None,
        *(f"HTTP/1.1 {code} x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode() for code in (200, 401, 503)),
    ],
    ids=["silence", "200", "401", "503"],
)
def test_a_server_that_does_not_serve_is_given_up(
    tmp_path: Path,
    server: Callable[[bytes | None], str],
    answer: bytes | None,
    offline_runs: Any,
    monkeypatch: pytest.MonkeyPatch,
    caplog: Any,
) -> None:
    monkeypatch.setattr("stdcl.tracking.wandb_sink._PROBE_SECONDS", 1.0)
    monkeypatch.setenv("WANDB_API_KEY", SECRET)
    monkeypatch.setenv("WANDB_BASE_URL", server(answer))
    told = _train(_sink(tmp_path, init_seconds=2.0), 0, 3)
    (run,) = offline_runs(tmp_path)
    assert [row["epoch"] for row in run.history] == [1, 2, 3]
    assert "cannot be reached" in "".join(told)


@pytest.mark.parametrize(
    ("init_seconds", "finish_seconds", "said"), [(0.1, 60.0, "could not be opened"), (60.0, 0.1, "did not end in time")]
)
def test_an_init_that_hangs_is_left_behind(
    init_seconds: float,
    finish_seconds: float,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: Any,
) -> None:
    import wandb

    release = threading.Event()
    monkeypatch.setattr("stdcl.tracking.wandb_sink._INIT_GRACE_SECONDS", 0.0)
    monkeypatch.setattr("stdcl.tracking.wandb_sink._LOCAL_SECONDS", 0.0 if finish_seconds < 1 else 60.0)
    monkeypatch.setattr(wandb, "init", lambda **_: release.wait())
    sink = _sink(tmp_path, mode="offline", init_seconds=init_seconds, finish_seconds=finish_seconds)
    told = _train(sink, 0, 3)  # returns, although nothing ever releases the call
    release.set()
    assert said in "".join(told)


def test_an_online_init_that_hangs_falls_back_to_offline(
    tmp_path: Path,
    server: Callable[[bytes | None], str],
    offline_runs: Any,
    monkeypatch: pytest.MonkeyPatch,
    caplog: Any,
) -> None:
    import wandb

    release = threading.Event()
    real = wandb.init
    monkeypatch.setattr("stdcl.tracking.wandb_sink._INIT_GRACE_SECONDS", 0.0)
    monkeypatch.setattr(
        wandb, "init", lambda **options: release.wait() if options["mode"] == "online" else real(**options)
    )
    monkeypatch.setenv("WANDB_API_KEY", SECRET)
    monkeypatch.setenv("WANDB_BASE_URL", server(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"))
    told = _train(_sink(tmp_path, init_seconds=8.0), 0, 2)
    release.set()
    (run,) = offline_runs(tmp_path)
    assert [row["epoch"] for row in run.history] == [1, 2]
    assert "no answer within" in "".join(told)


def test_an_error_in_wandb_is_said_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    import wandb

    class Broken:
        dir = str(tmp_path / "files")
        summary: dict[str, Any] = {}  # noqa: RUF012
        ended: list[int] = []  # noqa: RUF012

        def define_metric(self, *_: Any, **__: Any) -> None: ...

        def log(self, *_: Any, **__: Any) -> None:
            raise OSError(f"disk full {SECRET}")

        def finish(self, exit_code: int) -> None:
            self.ended.append(exit_code)

    monkeypatch.setenv("WANDB_API_KEY", SECRET)
    monkeypatch.setattr(wandb, "init", lambda **_: Broken())
    told = _train(_sink(tmp_path, mode="offline"), 0, 3)
    assert Broken.ended == [0]
    assert len([text for text in told if "disk full" in text]) == 1
    assert SECRET not in "".join(told)


def test_the_sweep_has_one_run_of_its_own(tmp_path: Path, offline_runs: Any) -> None:
    from PIL import Image

    figure = tmp_path / "accuracy.png"
    Image.new("RGB", (4, 3)).save(figure)

    def show(accuracy: float) -> None:
        log_sweep_summary(
            WandbSettings(project="stdcl-tests", **PATIENT),
            sweep="ablation",
            directory=tmp_path,
            config={"name": "ablation"},
            columns=["temperature", "accuracy"],
            rows=[["baseline", accuracy], [0.8, float("nan")], [1, None]],
            figure=figure,
            summary={"trials": 3},
        )

    show(0.9)
    (run,) = offline_runs(tmp_path)
    assert run.identity["job_type"] == "sweep"
    assert run.identity["group"] == "ablation"
    assert run.identity["id"] == read_identity(tmp_path)["id"]
    (row,) = run.history
    assert row["table._type"] == "table-file"
    assert row["figure._type"] == "image-file"
    (stored,) = tmp_path.glob("wandb/offline-run-*/files/media/table/*.json")
    assert '"baseline"' in stored.read_text()
    assert run.summary["trials"] == 3
    folders = sorted((tmp_path / "wandb").iterdir())
    show(0.9)  # a finished sweep that is run again
    assert sorted((tmp_path / "wandb").iterdir()) == folders
    show(0.8)
    (changed,) = offline_runs(tmp_path)
    assert changed.identity["id"] == run.identity["id"]


@pytest.mark.parametrize(
    ("wanted", "environment", "mode"),
    [
        ("auto", {}, "offline"),
        ("auto", {"WANDB_API_KEY": "k"}, "online"),
        ("auto", {"WANDB_IDENTITY_TOKEN_FILE": "f"}, "online"),
        ("auto", {"WANDB_API_KEY": "k", "WANDB_MODE": "offline"}, "offline"),
        ("auto", {"WANDB_API_KEY": "k", "WANDB_MODE": "dryrun"}, "offline"),
        ("auto", {"WANDB_API_KEY": "k", "WANDB_MODE": "disabled"}, "disabled"),
        ("auto", {"WANDB_MODE": "online"}, "offline"),
        ("offline", {"WANDB_API_KEY": "k"}, "offline"),
        ("online", {"WANDB_API_KEY": "k", "WANDB_MODE": "offline"}, "online"),
        ("online", {}, "offline"),
        ("disabled", {"WANDB_API_KEY": "k"}, "disabled"),
    ],
)
def test_mode(wanted: Any, environment: dict[str, str], mode: str, tmp_path: Path) -> None:
    assert resolve_mode(wanted, {"HOME": str(tmp_path), **environment}, PUBLIC)[0] == mode


@pytest.mark.parametrize(
    ("text", "base_url", "found"),
    [
        ("machine api.wandb.ai login user password secret\n", PUBLIC, True),
        ("machine api.wandb.ai login user password secret\n", "https://api.forge.coreweave.com", True),
        ("machine api.wandb.ai login user password secret\n", "https://wandb.example.org", False),
        ("machine localhost:8080 login user password secret\n", "http://localhost:8080", True),
        ("machine github.com login user password secret\n", PUBLIC, False),
        ("machine\n", PUBLIC, False),
    ],
)
@pytest.mark.parametrize("place", [".netrc", "_netrc", "elsewhere"])
def test_account_in_the_netrc_file(text: str, base_url: str, found: bool, place: str, tmp_path: Path) -> None:
    (tmp_path / place).write_text(text)
    (tmp_path / place).chmod(0o600)
    environment = {"HOME": str(tmp_path)}
    if place == "elsewhere":
        environment["NETRC"] = str(tmp_path / place)
    assert has_account(base_url, environment) is found
    if base_url == PUBLIC:
        assert has_account(environment=environment) is found
    assert has_account(environment={**environment, "WANDB_BASE_URL": base_url}) is found


def test_what_counts_as_reachable(server: Callable[[bytes | None], str], closed_port: int) -> None:
    assert unreachable(server(b"HTTP/1.1 404 no\r\nContent-Length: 0\r\n\r\n"), 2.0) is None
    assert f"127.0.0.1:{closed_port}" in str(unreachable(f"http://127.0.0.1:{closed_port}", 2.0))
    assert "503" in str(unreachable(server(b"HTTP/1.1 503 no\r\nContent-Length: 0\r\n\r\n"), 2.0))
    assert unreachable(server(None), 0.2) is not None
    assert unreachable("not a url", 0.2) is not None
