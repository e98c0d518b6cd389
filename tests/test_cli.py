"""The command: instant help, exit codes, and what a person sees."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from stdcl.cli import BAD_INPUT, main

HEAVY = ("torch", "ray", "pandas", "pyarrow", "optuna", "wandb", "pydantic", "numpy", "matplotlib")


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom stdcl.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        f"print([m for m in {HEAVY!r} if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"
    for verb in ("data", "train", "evaluate", "sweep", "table", "doctor", "fuse", "checkpoint"):
        assert f"    {verb}" in done.stdout


@pytest.mark.parametrize("verb", [["data", "prepare"], ["train"], ["sweep"], ["evaluate"], ["table"], ["fuse"]])
def test_every_verb_has_help(verb: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as done:
        main([*verb, "--help"])
    assert done.value.code == 0
    assert "usage" in capsys.readouterr().out


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
