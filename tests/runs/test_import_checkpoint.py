"""Published weights become runs that can be evaluated; anything else is refused."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch

from stdcl.config.load import resolve
from stdcl.encoders.published import published_names
from stdcl.errors import UserError
from stdcl.runs.evaluate import evaluate_run
from stdcl.runs.import_checkpoint import _layout, adopt
from stdcl.train.components import new_encoder


def public_state(encoder: str) -> dict[str, torch.Tensor]:
    """A state as the reference repository would have saved it, of random weights."""
    raw = {
        "recipe": "full",
        "data": {"dataset": "nw-ucla", "path": "x"},
        "encoder": {"name": encoder},
        "training": {"seed": 77},
    }
    config = resolve(raw, "test")
    network = new_encoder(config, _layout(config))
    ours = network.state_dict()
    return {public: ours[name] for public, name in published_names(network).items()}


def import_it(file: Path, out: Path, encoder: str = "ctrgcn", store: Path | None = None) -> str:
    return adopt(encoder, file, dataset="nw-ucla", stream="joint", out=out, store=str(store) if store else None)


def test_published_weights_are_evaluated(small_store: Path, tmp_path: Path) -> None:
    file = tmp_path / "weights.pt"
    torch.save({f"module.{name}": value for name, value in public_state("hcn").items()}, file)
    said = import_it(file, tmp_path / "run", "hcn", small_store)
    assert "stdcl evaluate" in said
    report = evaluate_run(tmp_path / "run")
    assert report.num_sequences == 20
    assert report.recorded is None
    assert report.stream == "joint"


def test_wrong_parameters_are_named(tmp_path: Path) -> None:
    state = public_state("ctrgcn")
    names = list(state)
    gone, bent = names[3], names[5]
    del state[gone]
    state[bent] = torch.zeros(3, 3)
    state["something.else"] = torch.zeros(2)
    torch.save(state, tmp_path / "weights.pt")
    with pytest.raises(UserError) as caught:
        import_it(tmp_path / "weights.pt", tmp_path / "run")
    for name in (gone, bent, "something.else"):
        assert name in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_a_file_with_code_is_refused_and_not_run(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (exec, (f"open({str(tmp_path / 'ran')!r}, 'w')",))

    (tmp_path / "weights.pt").write_bytes(pickle.dumps({"w": Bomb()}))
    with pytest.raises(UserError):
        import_it(tmp_path / "weights.pt", tmp_path / "run")
    assert not (tmp_path / "ran").exists()


def test_a_taken_folder_is_refused(tmp_path: Path) -> None:
    torch.save(public_state("ctrgcn"), tmp_path / "weights.pt")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "x").write_text("mine")
    with pytest.raises(UserError, match="something is there"):
        import_it(tmp_path / "weights.pt", tmp_path / "run")
