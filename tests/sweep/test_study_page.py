"""A search's study in a browser: served beside the sweep's page where optuna-dashboard is installed."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import urllib.request
from pathlib import Path

import pytest

from stdcl.results.layout import SweepFolder
from stdcl.sweep import study as studies
from stdcl.sweep.plan import write_sweep
from stdcl.sweep.sampling import distributions
from stdcl.sweep.study_page import MISSING, study_page
from tests.sweep.conftest import GRID, SEARCH, MakeSweep

INSTALLED = importlib.util.find_spec("optuna_dashboard") is not None
needs_dashboard = pytest.mark.skipif(
    not INSTALLED, reason="optuna-dashboard is not installed (pip install 'stdcl[dashboard]')"
)


@pytest.fixture
def search(make_sweep: MakeSweep, tmp_path: Path) -> Path:
    folder = SweepFolder(tmp_path / "searching")
    folder.root.mkdir()
    sweep = make_sweep(SEARCH)
    write_sweep(folder, sweep)
    study, _ = studies.open_study(sweep, folder.study, 6)
    for value in (0.5, 0.625):
        study.enqueue_trial({"contrast.temperature": value, "contrast.channel_reduction": 8})
        study.tell(study.ask(distributions(sweep.config.space)), value)
    return folder.root


def test_a_grid_has_no_study(make_sweep: MakeSweep, tmp_path: Path) -> None:
    write_sweep(SweepFolder(tmp_path), make_sweep(GRID))
    with study_page(tmp_path) as address:
        assert address == ""


@pytest.mark.skipif(INSTALLED, reason="optuna-dashboard is installed")
def test_without_the_library_its_name_is_said(search: Path) -> None:
    with study_page(search) as address:
        assert address == MISSING


@needs_dashboard
def test_the_study_is_served_on_this_machine_alone(search: Path) -> None:
    with study_page(search) as address:
        assert address.startswith("http://127.0.0.1:")
        with urllib.request.urlopen(f"{address}api/studies") as answer:
            (study,) = json.load(answer)["study_summaries"]
    assert study["study_name"] == "searching"


@needs_dashboard
def test_a_browser_draws_the_study(search: Path, tmp_path: Path) -> None:
    names = ("chromium", "chromium-browser", "google-chrome")
    browser = next((path for name in names if (path := shutil.which(name))), None)
    if browser is None:
        pytest.skip("no Chromium is installed: the study is not opened in a browser here (apt-get install chromium)")
    with study_page(search) as address:
        done = subprocess.run(
            [
                browser, "--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}",
                "--virtual-time-budget=15000", "--dump-dom", f"{address}dashboard/",
            ],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
    assert "searching" in done.stdout, done.stderr[-2000:]
