"""Where data and results are looked for."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from stdcl.config import read_run_file
from stdcl.config.paths import also_looked_at, data_path, data_places, data_root, expand, storage_path
from stdcl.errors import UserError

HERE = Path.cwd()


@pytest.mark.parametrize("empty", ["", "  "])
def test_an_empty_variable_counts_as_not_set(empty: str) -> None:
    assert storage_path({"STDCL_STORAGE": empty}) == storage_path({}) == HERE / "runs"
    assert data_path("x", {"STDCL_DATA": empty}) == data_path("x", {}) == HERE / "x"
    with pytest.raises(UserError, match=r"data.path is '\$A/x', but the variable A is not set, or empty"):
        data_path("$A/x", {"A": empty})


def test_data_are_made_under_the_variable_and_looked_up_there_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    known = {"STDCL_DATA": str(tmp_path / "data")}
    there, here = tmp_path / "data" / "x", tmp_path / "x"
    assert data_places("x", known) == [there, here]
    assert data_path("x", known) == there
    here.mkdir()
    assert data_path("x", known) == here
    there.mkdir(parents=True)
    assert data_path("x", known) == there
    assert data_places("./x", known) == data_places("x", {}) == [here]
    assert data_places("../x", known)[0].resolve() == tmp_path.parent / "x"
    assert data_places(str(here), known) == [here]
    assert also_looked_at(there, known) == [here]
    assert also_looked_at(here, known) == also_looked_at(there, {}) == []


def test_variables_and_home_are_replaced() -> None:
    known = {"A": "/a", "B_1": "b", "HOME": "/home/me", "STDCL_DATA": "${A}/data", "STDCL_STORAGE": "~/runs"}
    assert data_path("$A/${B_1}x", known) == Path("/a/bx")
    assert data_path("~/x", known) == Path("/home/me/x")
    assert data_path("x~y/$", known) == Path("/a/data/x~y/$")
    assert storage_path(known) == Path("/home/me/runs")


def test_an_unknown_home_is_an_error_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"data.path is '~no-such-user/x'.*there is no such user"):
        data_path("~no-such-user/x", {})
    monkeypatch.setattr("pwd.getpwuid", {}.__getitem__)
    for known in ({}, {"HOME": ""}):
        with pytest.raises(UserError, match=r"data.path is '~/x'.*HOME is not set"):
            data_path("~/x", known)
    with pytest.raises(UserError, match="NUL"):
        expand("a\0b", "data.path", {})


def test_without_home_and_account_entry(tmp_path: Path) -> None:
    """As in a container that runs under a number: neither HOME nor an entry in the list of accounts."""
    code = (
        "import pwd\n"
        "def missing(uid): raise KeyError(uid)\n"
        "pwd.getpwuid = missing\n"
        "from stdcl.cli import main\n"
        "import sys\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    run = tmp_path / "run.yaml"
    run.write_text("recipe: lite\ndata: {dataset: nw-ucla, path: ~/store}\nencoder: {name: hcn}\n")
    environment = {key: value for key, value in os.environ.items() if key not in ("HOME", "USER", "LOGNAME")}
    environment["TMPDIR"] = str(tmp_path)
    said = subprocess.run(
        [sys.executable, "-c", code, "train", str(run)], capture_output=True, text=True, env=environment, check=False
    )
    assert said.returncode == 2
    assert "note: no home folder is known; HOME is " in said.stderr
    assert f"stdcl-home-{os.getuid()}/store" in said.stderr
    assert "Traceback" not in said.stderr
    doctor = subprocess.run(
        [sys.executable, "-c", code, "doctor"], capture_output=True, text=True, env=environment, check=False
    )
    assert "Traceback" not in doctor.stderr
    assert "note: no home folder is known" in doctor.stderr


@pytest.mark.parametrize("change", ["tracking: {entity: $USER}", "data: {dataset: nw-ucla, path: x, protocol: '${P}'}"])
def test_variables_elsewhere_are_refused(tmp_path: Path, change: str) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(f"recipe: lite\nencoder: {{name: hcn}}\n{change}\n" + ("" if "data" in change else "data: {}\n"))
    text = path.read_text().replace("data: {}", "data: {dataset: custom, path: $X}").replace("nw-ucla", "custom")
    path.write_text(text)
    with pytest.raises(UserError, match=r"replaced in data.path and method.texts alone; write the value itself"):
        read_run_file(path)


@pytest.mark.parametrize("address", ["s3://bucket/runs", "gs://bucket", "file:///shared/runs"])
def test_the_storage_is_a_folder_and_no_address(address: str) -> None:
    with pytest.raises(UserError, match=r"EFS, Filestore, FSx.*Object storage does not work"):
        storage_path({"STDCL_STORAGE": address})


def test_the_doctor_finds_the_stores_under_the_data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from stdcl.doctor.machine import _data

    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert data_root({}) == tmp_path / "here"
    assert data_root({"STDCL_DATA": str(tmp_path / "data")}) == tmp_path / "data"
    (tmp_path / "data" / "broken").mkdir(parents=True)
    (tmp_path / "data" / "broken" / "manifest.json").write_text("{")
    monkeypatch.setenv("STDCL_DATA", str(tmp_path / "data"))
    (found,) = _data()
    assert found.state == "bad"
    assert str(tmp_path / "data" / "broken") in found.text
