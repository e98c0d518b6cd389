"""The same training on one machine, on two and on three: equal to the last bit."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cluster.conftest import MakeMachines
from tests.cluster.machines import PORT, start_ray
from tests.cluster.training import stdcl, the_run, tiny_sweep, write_sweep
from tests.ray.command import assert_as_undisturbed

pytestmark = pytest.mark.cluster


@pytest.mark.parametrize("count", [2, 3])
def test_several_machines_compute_what_one_does(make_machines: MakeMachines, tmp_path: Path, count: int) -> None:
    machines = make_machines(STDCL_DATA=str(tmp_path / "data"))
    head, *others = [machines.up(name) for name in ("one", "two", "three")[:count]]
    alone = machines.up("alone")
    start_ray(head, others)
    corpus = tmp_path / "data" / "corpus"
    one = str(write_sweep(tmp_path / "one.yaml", tiny_sweep(corpus, workers=count)))
    code, text = stdcl(alone, "sweep", one, environment={"STDCL_STORAGE": str(tmp_path / "together")})
    assert code == 0, text
    assert "Ray on this machine: 1 node(s)" in text

    file = str(write_sweep(tmp_path / "spread.yaml", tiny_sweep(corpus, workers=count, placement="STRICT_SPREAD")))
    environment = {"STDCL_STORAGE": str(tmp_path / "spread"), "RAY_ADDRESS": f"{head.address}:{PORT}"}
    code, text = stdcl(head, "sweep", file, environment=environment)
    assert code == 0, text
    assert f"{count} node(s) checked: versions, storage, 1 prepared dataset(s) equal" in text
    assert_as_undisturbed(the_run(tmp_path / "spread"), the_run(tmp_path / "together"))
