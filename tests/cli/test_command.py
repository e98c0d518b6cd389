"""The command: quick help, exit codes, spelling, and what a person sees."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import click
import pytest

import stdcl.cli
from stdcl.cli import BAD_INPUT, DONE, FAILED, INTERRUPTED, main
from stdcl.cli.command import root
from stdcl.errors import UserError

HEAVY = ("torch", "ray", "pandas", "pyarrow", "optuna", "wandb", "pydantic", "numpy", "matplotlib")


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom stdcl.cli import main\nassert main(['--help']) == 0\n"
        f"print([m for m in {HEAVY!r} if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"
    for verb in ("data", "train", "evaluate", "sweep", "table", "doctor", "fuse", "checkpoint"):
        assert f"  {verb}" in done.stdout


def _paths(command: click.Command, ahead: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield ahead
    if isinstance(command, click.Group):
        for name, below in command.commands.items():
            yield from _paths(below, (*ahead, name))


@pytest.mark.parametrize("verb", list(_paths(root())), ids=" ".join)
def test_every_verb_has_help(verb: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*verb, "--help"]) == DONE
    assert capsys.readouterr().out.startswith(f"Usage: {' '.join(('stdcl', *verb))} ")


def test_the_module_is_the_command() -> None:
    done = subprocess.run([sys.executable, "-m", "stdcl", "tabel"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (BAD_INPUT, "")
    assert done.stderr == "error: there is no 'stdcl tabel' (did you mean 'table'?); see 'stdcl --help'\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["tabel"], "did you mean 'table'?"),
        (["data", "prepar"], "did you mean 'prepare'?"),
        (["prepare"], "did you mean 'data prepare'?"),
        (["train", "x.yaml", "--sett", "a=b"], "Did you mean '--set'?"),
        (["data", "prepare", "ntu61", "--out", "x"], "did you mean 'ntu60'?"),
        (["checkpoint", "import", "hnc", "x", "--dataset", "ntu60", "--stream", "joint", "--out", "y"], "'hcn'"),
        (["evaluate", "x", "--checkpoint", "lst"], "'last', 'best'"),
        (["train"], "Missing argument 'FILE'"),
        (["data", "prepare", "ntu60"], "Missing option '--out'"),
    ],
)
def test_the_nearest_spelling_is_said(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == BAD_INPUT
    text = capsys.readouterr().err
    assert said in text
    assert " --help'" in text
    assert text.count("\n") == 1


def test_a_word_like_no_verb_gets_no_suggestion(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["xyzzy"]) == BAD_INPUT
    assert "did you mean" not in capsys.readouterr().err


def test_an_option_with_several_values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from stdcl.results import scores

    seen: list[tuple[str, ...]] = []

    def read(runs: Sequence[Path]) -> None:
        seen.append(tuple(map(str, runs)))
        if len(seen) % 2 == 0:
            raise UserError("read")

    monkeypatch.setattr(scores, "read_runs", read)
    assert main(["levels", "--baseline", "a", "b", "--contrast", "c", "--out", "x"]) == BAD_INPUT
    assert main(["levels", "--baseline", "a", "--contrast=c", "--contrast", "d", "e", "--baseline", "b"]) == BAD_INPUT
    assert seen == [("a", "b"), ("c",), ("a", "b"), ("c", "d", "e")]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["train", "x.yaml"], "the same command resumes from the last checkpoint"),
        (["evaluate", "x"], "the run under evaluation is unchanged"),
        (["data", "synth", "ntu60", "--out", "x"], "no corpus was written"),
    ],
)
def test_an_interruption_is_said_in_the_verbs_own_words(
    words: list[str], said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import stdcl.config
    from stdcl.data import synthetic
    from stdcl.runs import evaluate

    def interrupted(*args: object, **more: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(stdcl.config, "read_run_file", interrupted)
    monkeypatch.setattr(synthetic, "synthesise", interrupted)
    monkeypatch.setattr(evaluate, "evaluate_run", interrupted)
    assert main(words) == INTERRUPTED
    assert capsys.readouterr().err.startswith(f"interrupted; {said}")


def test_a_verb_is_one_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "greeting.py").write_text(
        "import click\nfrom stdcl.cli.verb import Verb\nTITLE = 'Greetings'\n"
        "@click.command(cls=Verb)\n@click.argument('name')\n"
        "def greet(name):\n    'Greet somebody.'\n    print(f'hello {name}')\n    return 1\n"
        "VERBS = (greet,)\n"
    )
    monkeypatch.setattr(stdcl.cli, "__path__", [*stdcl.cli.__path__, str(tmp_path)])
    root.cache_clear()
    try:
        assert main(["greet", "you"]) == FAILED
        assert capsys.readouterr().out == "hello you\n"
        assert main(["--help"]) == DONE
        assert "Greetings:\n  greet " in capsys.readouterr().out
        assert main(["great"]) == BAD_INPUT
        assert "did you mean 'greet'?" in capsys.readouterr().err
    finally:
        root.cache_clear()
        sys.modules.pop("stdcl.cli.greeting", None)


def test_bad_input_ends_with_code_2_and_no_traceback(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("data: {dataset: nw-ucla, path: x}\nencoder: {name: ctrgcn}\nrecipe: lite\ncontrast: {tau: 1}\n")
    assert main(["train", str(file)]) == BAD_INPUT
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert "contrast.tau" in said
    assert "Traceback" not in said


def test_a_typo_in_a_sweep_file_starts_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STDCL_STORAGE", str(tmp_path / "runs"))
    file = tmp_path / "sweep.yaml"
    file.write_text("name: x\nquestion: y\nbase: {}\ngrid: {contrast.temprature: [1]}\n")
    assert main(["sweep", str(file)]) == BAD_INPUT
    assert "did you mean 'temperature'" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_data_from_raw_files_to_info(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    raw, store = tmp_path / "raw", tmp_path / "store"
    assert main(["data", "synth", "nw-ucla", "--out", str(raw), "--sequences", "30", "--seed", "1"]) == 0
    assert main(["data", "prepare", "nw-ucla", "--raw", str(raw), "--out", str(store)]) == 0
    capsys.readouterr()
    assert main(["data", "info", str(store), "--json", "--verify"]) == 0
    assert json.loads(capsys.readouterr().out)["dataset"] == "nw-ucla"
    assert main(["data", "info", str(tmp_path / "absent")]) == BAD_INPUT


def test_data_are_prepared_where_they_are_looked_up(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STDCL_DATA", str(tmp_path / "data"))
    assert main(["data", "synth", "nw-ucla", "--out", "raw", "--sequences", "30"]) == DONE
    assert main(["data", "prepare", "nw-ucla", "--raw", "raw", "--out", "nw-ucla"]) == DONE
    assert (tmp_path / "data" / "nw-ucla" / "manifest.json").exists()
    assert main(["data", "info", "nw-ucla"]) == DONE
    assert main(["data", "info", "data/nw-ucla"]) == DONE
    capsys.readouterr()
    assert main(["data", "info", "ntu60"]) == BAD_INPUT
    said = capsys.readouterr().err
    assert f"{tmp_path}/data/ntu60: no prepared data here" in said
    assert f"nor in {tmp_path}/ntu60" in said
    run = tmp_path / "run.yaml"
    run.write_text("recipe: lite\ndata: {dataset: nw-ucla, path: nw-ucla}\nencoder: {name: nosuch}\n")
    assert main(["train", str(run)]) == BAD_INPUT
    run.write_text("recipe: lite\ndata: {dataset: nw-ucla, path: elsewhere}\nencoder: {name: hcn}\n")
    capsys.readouterr()
    assert main(["train", str(run)]) == BAD_INPUT
    assert f"nor in {tmp_path}/elsewhere" in capsys.readouterr().err


def test_missing_options_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "prepare", "ntu60", "--out", str(tmp_path / "x")]) == BAD_INPUT
    assert "--raw" in capsys.readouterr().err
    assert main(["data", "prepare", "custom", "--out", str(tmp_path / "x")]) == BAD_INPUT
    assert "--spec" in capsys.readouterr().err


def test_the_doctor_speaks_json(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "secret-value-of-a-key")
    main(["doctor", "--json"])
    text = capsys.readouterr().out
    findings = json.loads(text)
    assert {"torch", "ray", "cpu", "storage"} <= {finding["what"] for finding in findings}
    assert "secret-value" not in text


@pytest.mark.parametrize(
    ("number", "said"), [(errno.ENOSPC, "no space left on device"), (errno.EROFS, "read-only file system")]
)
def test_a_full_disk_is_said_without_a_traceback(
    number: int, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object, **more: object) -> None:
        raise OSError(number, "words of some library", str(tmp_path / "x"))

    monkeypatch.setattr("stdcl.data.prepare.prepare_dataset", full)
    assert main(["data", "prepare", "nw-ucla", "--raw", "x", "--out", str(tmp_path / "s")]) == FAILED
    told = f"error: {tmp_path}/x: {said}; no store was written; the same command starts again\n"
    assert capsys.readouterr().err == told


def test_an_interruption_reaches_no_worker_process(tmp_path: Path) -> None:
    """Ctrl-C goes to the whole process group; the workers leave with the command, silently and at once."""
    words = ["data", "synth", "ntu60", "--out", str(tmp_path / "raw"), "--sequences", "100000"]
    with subprocess.Popen(
        [sys.executable, "-m", "stdcl", *words], stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stderr is not None
        said = process.stderr.readline()
        os.killpg(process.pid, signal.SIGINT)
        said += process.stderr.read()
    assert process.returncode == INTERRUPTED
    assert said.splitlines()[-1] == "interrupted; no corpus was written; the same command starts again"
    assert "Traceback" not in said
    assert list(tmp_path.iterdir()) == []
