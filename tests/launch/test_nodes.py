"""What nodes have, compared with the machine that would start trainings on them."""

from __future__ import annotations

from pathlib import Path

import pytest

from stdcl.errors import UserError
from stdcl.launch.nodes import (
    Facts,
    Node,
    _storage,
    cards_of_the_driver,
    check_nodes,
    describe,
    faults,
    look_here,
    notes,
    versions,
)

OWN = {"stdcl": "0.1.0+aaaaaaaaaa", "ray": "2.60.0", "python": "3.11.2", "torch": "2.13.0"}
HASH, OTHER = "a" * 64, "b" * 64
DATA = {"/data/ntu120": HASH}


def node(name: str = "10.0.0.2 (two)", cpus: float = 4, gpus: float = 0, error: str = "", **facts: object) -> Node:
    found = {"versions": OWN, "data": DATA, **facts}
    return Node(name, {"CPU": cpus, "GPU": gpus}, None if error else Facts(**found), error)  # type: ignore[arg-type]


def test_nodes_that_agree_have_no_faults_and_no_notes() -> None:
    assert faults([node(), node("10.0.0.3")], OWN, DATA) == []
    assert notes([node()], OWN) == []


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (node(error="did not answer within 60 s"), "10.0.0.2 (two): did not answer within 60 s"),
        (
            node(versions={**OWN, "stdcl": "0.1.0+bbbbbbbbbb"}),
            "10.0.0.2 (two): stdcl 0.1.0+bbbbbbbbbb, but 0.1.0+aaaaaaaaaa here",
        ),
        (node(versions={**OWN, "python": "3.12.1"}), "10.0.0.2 (two): Python 3.12.1, but 3.11.2 here"),
        (node(storage="not seen"), "10.0.0.2 (two): STDCL_STORAGE: not seen"),
        (
            node(data={"/data/ntu120": OTHER}),
            "10.0.0.2 (two): /data/ntu120 holds other data (bbbbbbbbbbbb, but aaaaaaaaaaaa here); copy the store "
            "there, or keep it in the shared folder",
        ),
        (
            node(data={"/data/ntu120": "/data/ntu120: no prepared data here"}),
            "10.0.0.2 (two): /data/ntu120: no prepared data here; copy the store there, or keep it in the shared "
            "folder",
        ),
    ],
)
def test_a_fault_names_the_node_and_both_sides(other: Node, said: str) -> None:
    assert faults([node("10.0.0.1"), other], OWN, DATA) == [said]


def test_a_head_without_cpus_needs_no_data_but_the_storage() -> None:
    head = node(cpus=0, data={"/data/ntu120": "nothing"})
    assert faults([head], OWN, DATA) == []
    assert len(faults([node(cpus=0, storage="not seen")], OWN, DATA)) == 1


def test_differences_that_trainings_can_live_with_are_notes() -> None:
    other = node(versions={**OWN, "torch": "2.13.0+cu128", "python": "3.11.9"}, gpus=2, cards=("H100",))
    assert faults([other], OWN, DATA) == []
    assert notes([other], OWN) == [
        "10.0.0.2 (two): python 3.11.9, but 3.11.2 here: last digits may differ",
        "10.0.0.2 (two): torch 2.13.0+cu128, but 2.13.0 here: last digits may differ",
        "10.0.0.2 (two): Ray counts 2 GPU(s), the NVIDIA driver lists 1: a trial that gets one that is not "
        "there ends with an error",
    ]
    assert "4 CPU, 2 GPU (H100); stdcl 0.1.0+aaaaaaaaaa" in describe(other)


def test_storage_is_proved_by_a_secret(tmp_path: Path) -> None:
    place = tmp_path / "runs" / ".nodes-1"
    assert "is not the driver's folder here" in _storage(str(place), "secret", "two")
    assert "EFS, Filestore, FSx" in _storage(str(place), "secret", "two")
    place.mkdir(parents=True)
    (place / "driver").write_text("of another file system")
    assert "is another folder here" in _storage(str(place), "secret", "two")
    (place / "driver").write_text("secret")
    assert _storage(str(place), "secret", "two") == ""
    assert (place / "two").read_text() == "secret"
    assert "cannot be written to" in _storage(str(place), "secret", "missing/two")


def test_this_machine_as_a_node(tmp_path: Path) -> None:
    found = look_here(None, [str(tmp_path)])
    assert found.versions == versions()
    assert found.storage == ""
    assert "no prepared data here" in found.data[str(tmp_path)]


def test_cards_are_read_without_a_library(tmp_path: Path) -> None:
    for number in range(2):
        folder = tmp_path / f"0000:0{number}:00.0"
        folder.mkdir()
        (folder / "information").write_text("Model: \t\t NVIDIA H100 80GB HBM3\nIRQ:   \t 94\n")
    assert cards_of_the_driver(tmp_path) == ("NVIDIA H100 80GB HBM3",) * 2
    assert cards_of_the_driver(tmp_path / "none") == ()


def test_results_in_a_jobs_uploaded_copy_are_refused() -> None:
    place = Path("/tmp/ray/session/runtime_resources/working_dir_files/_ray_pkg_1/runs")
    with pytest.raises(UserError, match=r"Set STDCL_STORAGE in the environment of the head's 'ray start'"):
        check_nodes(place, {})
