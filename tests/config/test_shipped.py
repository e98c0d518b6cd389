"""Sweeps by name, wherever the command is typed."""

from __future__ import annotations

from pathlib import Path

import pytest

from stdcl.config.load import read_mapping
from stdcl.config.shipped import find_sweep, questions, render_shipped, shipped_sweeps
from stdcl.config.sweep import load_sweep
from stdcl.errors import UserError

ROOT = Path(__file__).resolve().parents[2]


def test_the_package_ships_every_sweep_of_the_checkout() -> None:
    expected = {str(p.relative_to(ROOT / "sweeps").with_suffix("")) for p in (ROOT / "sweeps").rglob("*.yaml")}
    assert set(shipped_sweeps()) == expected


@pytest.mark.parametrize("name", sorted(shipped_sweeps()))
def test_every_shipped_sweep_loads_by_name(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for given in (name, f"{name}.yaml", f"sweeps/{name}.yaml"):
        assert find_sweep(given).samefile(ROOT / "sweeps" / f"{name}.yaml")
    assert load_sweep(find_sweep(name)).config.question


@pytest.mark.parametrize("folder", ["", "ntu120/"])
def test_each_part_of_the_papers_table_4_has_its_file(folder: str) -> None:
    files = [find_sweep(name) for name in shipped_sweeps() if name.rpartition("/")[0] == folder.removesuffix("/")]
    assert {f"4{letter}" for letter in "abcde"} <= {str(read_mapping(file).get("table")) for file in files}


def test_a_file_of_ones_own_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ablation_tau").write_text("own")
    assert find_sweep("ablation_tau") == Path("ablation_tau")


def test_a_wrong_name_gets_the_nearest_and_all() -> None:
    with pytest.raises(UserError, match=r"did you mean 'ablation_tau'") as caught:
        find_sweep("ablation_tua")
    assert "quickstart" in str(caught.value)


def test_shipped_sweeps_are_listed_with_their_questions() -> None:
    listed = render_shipped(80)
    assert set(questions()) == set(shipped_sweeps())
    assert all(len(line) <= 80 for line in listed.splitlines())
    assert listed.splitlines()[0].startswith("ablation_d")
    words = " ".join(listed.split())
    assert "Does the installation work from raw files to a table?" in words
    assert [line.split()[0] for line in listed.splitlines() if not line.startswith(" ")] == list(shipped_sweeps())
