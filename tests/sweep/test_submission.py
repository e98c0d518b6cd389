"""What ``stdcl submit`` sends where, without a cluster."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import ClassVar

import pytest
import yaml

from stdcl.cli import BAD_INPUT, main
from stdcl.config.shipped import find_sweep
from stdcl.config.sweep import load_sweep
from stdcl.errors import UserError
from stdcl.launch import jobs
from stdcl.sweep import submission
from stdcl.sweep.submission import commands_over_ssh, submit_through, submit_to
from tests.sweep.conftest import GRID

CLUSTER, SCRIPT = Path("ray_cluster/onprem.yaml"), Path("ray_cluster/submit.py")


class Server:
    """A dashboard that runs what it was given."""

    sent: ClassVar[list[tuple[str, str, dict[str, str] | None]]] = []
    lives: jobs.Submitted | None = None
    checks = True

    def __init__(self, address: str) -> None:
        self.address = address

    def running(self, sweep: str) -> jobs.Submitted | None:
        return self.lives

    def submit(self, sweep: str, entrypoint: str, files: Path | None) -> str:
        content = None if files is None else {path.name: path.read_text() for path in files.iterdir()}
        self.sent.append((sweep, entrypoint, content))
        return f"{sweep}-1"

    def show(self, job: str, say: jobs.Say, *, until: str = "", seconds: float | None = None) -> bool:
        say(f"log of {job}")
        return self.checks


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> type[Server]:
    monkeypatch.setattr(submission, "JobServer", Server)
    monkeypatch.setattr(Server, "sent", [])
    return Server


def test_a_shipped_sweep_goes_by_its_name(server: type[Server]) -> None:
    said: list[str] = []
    code = submit_to("http://head:8265", "ablation_tau", ["seeds=[1, 2]"], follow=False, say=said.append)
    assert code == 0
    name, entrypoint, files = server.sent[0]
    assert (name, files) == ("ablation_tau", None)
    assert entrypoint == "stdcl --version && stdcl sweep ablation_tau --set 'seeds=[1, 2]'"
    assert "ray job stop --address http://head:8265 ablation_tau-1" in said[-1]


def test_a_file_of_ones_own_goes_whole(server: type[Server], tmp_path: Path) -> None:
    """With what it extends and what is set, and the trials there are the trials here."""
    shared = {key: value for key, value in GRID.items() if key not in ("name", "question", "grid")}
    (tmp_path / "shared.yaml").write_text(yaml.safe_dump({**shared, "name": "shared", "question": "?"}))
    own = {"extends": "shared.yaml", "name": "own", "question": "?", "grid": {"contrast.temperature": [0.5]}}
    file = tmp_path / "own.yaml"
    file.write_text(yaml.safe_dump(own))
    assert submit_to("auto", str(file), ["seeds=[7]"], follow=False, say=lambda text: None) == 0
    _, entrypoint, files = server.sent[0]
    assert entrypoint == "stdcl --version && stdcl sweep own.yaml"
    assert files is not None
    there = tmp_path / "there.yaml"
    there.write_text(files["own.yaml"])
    expected = [trial.fingerprint for trial in load_sweep(file, ["seeds=[7]"]).trials()]
    assert [trial.fingerprint for trial in load_sweep(there).trials()] == expected


def test_a_sweep_that_runs_is_named_and_not_doubled(server: type[Server], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Server, "lives", jobs.Submitted("ablation_tau-3", "stdcl sweep ablation_tau"))
    said: list[str] = []
    assert submit_to("http://head:8265", "ablation_tau", [], follow=False, say=said.append) == 0
    assert server.sent == []
    assert "job ablation_tau-3 of this sweep runs already, nothing was submitted" in said[0]
    assert "--follow ablation_tau-3" in said[1]


def test_a_job_that_ends_in_its_checks_fails_the_command(server: type[Server], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Server, "checks", False)
    said: list[str] = []
    assert submit_to("http://head:8265", "ablation_tau", [], follow=True, say=said.append) == 1
    assert said[-1] == "ablation_tau: the job has ended; when that is mended, the same command submits it again"


def test_a_faulty_file_reaches_no_cluster(server: type[Server]) -> None:
    with pytest.raises(UserError, match=r"training\.epoch"):
        submit_to("http://head:8265", "ablation_tau", ["training.epoch=3"], follow=False)
    assert server.sent == []


def test_words_survive_the_shell_of_the_head() -> None:
    """``ray submit`` joins what follows the script by spaces."""
    path = find_sweep("ablation_tau")
    overrides = ["seeds=[1, 2]", "question=does it $(run)?"]
    (command,) = commands_over_ssh(CLUSTER, SCRIPT, path, None, overrides, follow=True)
    assert command[:3] == ["submit", str(CLUSTER), str(SCRIPT)]
    assert shlex.split(" ".join(command[3:])) == [
        "ablation_tau", "--", "--job", "--set", "seeds=[1, 2]", "--set", "question=does it $(run)?", "--follow",
    ]  # fmt: skip


def test_a_file_of_ones_own_is_copied_to_the_head_first(tmp_path: Path) -> None:
    first, second = commands_over_ssh(CLUSTER, SCRIPT, Path("mine.yaml"), tmp_path, ["seeds=[1]"], follow=False)
    assert first == ["rsync-up", str(CLUSTER), str(tmp_path / "mine.yaml"), "~/.stdcl/sweeps/mine.yaml"]
    assert second[3:] == ["mine.yaml", "--", "--job"], "what was set is in the file"


def test_a_cluster_file_needs_its_script(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"mine\.yaml: no such cluster file; the release has both in ray_cluster/"):
        submit_through(tmp_path / "mine.yaml", "ablation_tau", [], follow=False)
    (tmp_path / "mine.yaml").touch()
    with pytest.raises(UserError, match=r"submit\.py: no such submit\.py beside the cluster file"):
        submit_through(tmp_path / "mine.yaml", "ablation_tau", [], follow=False)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "give --address http://HEAD:8265 (a cluster that runs) or --cluster FILE"),
        (["--address", "head:8265"], "--address head:8265: no address of a dashboard"),
    ],
)
def test_where_to_is_asked_for(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_API_SERVER_ADDRESS", raising=False)
    assert main(["submit", "ablation_tau", *words]) == BAD_INPUT
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("cause", "said"), [("Head node of cluster (stdcl) not found!", ""), ("something else", "Traceback")]
)
def test_a_cluster_that_is_not_up_is_said_without_rays_traceback(
    capfd: pytest.CaptureFixture[str], cause: str, said: str
) -> None:
    code = f"import sys\nprint('words', file=sys.stderr)\nraise RuntimeError({cause!r})"
    command = [sys.executable, "-c", code]
    if said:
        assert submission._run(command, CLUSTER) == 1
    else:
        with pytest.raises(UserError, match=r"onprem\.yaml: the head of this cluster is not up; `ray up -y"):
            submission._run(command, CLUSTER)
    shown = capfd.readouterr().err
    assert shown.startswith("words\n")
    assert ("Traceback" in shown) == bool(said)


def test_the_exit_code_of_the_head_arrives() -> None:
    assert submission._run([sys.executable, "-c", "raise SystemExit(130)"], CLUSTER) == 130
