"""Workers run the driver's package: on their path it comes first, alone, and its digest is checked."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from stdcl.config import RunConfig
from stdcl.launch import package
from stdcl.launch.cluster import prepare_environment
from stdcl.launch.package import ForeignCode, check_package, folder_of_package
from stdcl.launch.worker import Job, run_rank
from stdcl.parallel.comm import LocalComm
from stdcl.version import code_version
from tests.launch.test_cluster import resources
from tests.sweep.conftest import GRID


def test_the_folder_holds_the_package_and_nothing_else() -> None:
    with folder_of_package() as folder:
        assert [path.name for path in folder.iterdir()] == ["stdcl"]
        assert (folder / "stdcl").resolve() == package.PACKAGE
    assert not folder.exists()
    assert package.PACKAGE.is_dir(), "the link went, not what it led to"


def test_folders_of_killed_processes_are_removed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    code = (
        "import os, signal\nfrom stdcl.launch.package import folder_of_package\n"
        "with folder_of_package():\n    os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", code], env={**os.environ, "TMPDIR": str(tmp_path)})
    (left,) = tmp_path.iterdir()
    with folder_of_package() as young:
        assert sorted(tmp_path.iterdir()) == sorted([left, young]), "it might not be locked yet"
    monkeypatch.setattr(package, "YOUNG_SECONDS", -1.0)
    with folder_of_package() as first, folder_of_package() as second:
        assert sorted(tmp_path.iterdir()) == sorted([first, second])
        assert (second / "stdcl").resolve() == package.PACKAGE
    assert list(tmp_path.iterdir()) == []


def test_other_code_is_refused_before_training(tmp_path: Path) -> None:
    config = RunConfig.model_validate({key: GRID["base"][key] for key in ("data", "encoder", "training")})
    check_package(code_version())

    def never(*given: object, **more: object) -> None:
        raise AssertionError("must not train")

    job = Job(config, tmp_path / "run", "", "", {}, code="0.0.0+0000000000")
    with pytest.raises(
        ForeignCode, match=r"would train with stdcl .* of /.*, but the command runs 0\.0\.0\+0000000000"
    ):
        list(run_rank(job, LocalComm(), torch.device("cpu"), never))  # type: ignore[arg-type]
    assert not (tmp_path / "run").exists()
    assert Job(config, tmp_path, "", "").code == code_version()


def test_ray_s_own_processes_do_not_import_from_the_current_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", {})
    prepare_environment(resources())
    assert os.environ["PYTHONSAFEPATH"] == "1"
    code = "import sys; print('' in sys.path)"
    assert subprocess.run([sys.executable, "-c", code], env=os.environ, capture_output=True).stdout == b"False\n"
