"""Atomic files, random streams, skeletons."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from stdcl import __version__, atomic
from stdcl.errors import UserError, nearest
from stdcl.seeding import generator, item_keys, torch_seed
from stdcl.skeleton import NTU, NW_UCLA, Skeleton, hop_distance, spatial_partition
from stdcl.version import code_version


class Interrupted(Exception):
    pass


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file.txt"
    atomic.write_text(path, "old")

    def interrupted() -> None:
        with atomic.staging_file(path) as part:
            part.write_text("half")
            raise Interrupted

    with pytest.raises(Interrupted):
        interrupted()
    assert path.read_text() == "old"
    assert [p.name for p in path.parent.iterdir()] == ["file.txt"]


def test_a_folder_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    final = tmp_path / "store"
    with atomic.staging_dir(final) as folder:
        (folder / "a").write_text("1")

    def interrupted() -> None:
        with atomic.staging_dir(final) as folder:
            (folder / "b").write_text("2")
            raise Interrupted

    with pytest.raises(Interrupted):
        interrupted()
    assert [p.name for p in final.iterdir()] == ["a"]
    with atomic.staging_dir(final) as folder:
        (folder / "c").write_text("3")
    assert [p.name for p in final.iterdir()] == ["c"]
    assert [p.name for p in tmp_path.iterdir()] == ["store"]


def test_random_streams_are_functions_of_their_arguments() -> None:
    def draw(*key: int, purpose: str = "augment", seed: int = 1) -> list[float]:
        return list(generator(seed, purpose, *key).random(4))

    assert draw(3, 7) == draw(3, 7)
    others = [draw(7, 3), draw(3, 8), draw(3), draw(3, 7, 0), draw(3, 7, purpose="order"), draw(3, 7, seed=2)]
    for index, other in enumerate(others):
        assert other != draw(3, 7)
        assert other not in others[:index]
    assert torch_seed(1, "head") == torch_seed(1, "head") != torch_seed(1, "encoder")
    assert 0 <= torch_seed(5, "x") < 2**63


def test_item_keys_do_not_depend_on_the_batch() -> None:
    items = np.arange(5000)
    keys = item_keys(1, "encoder", 3, items)
    assert len(set(keys.tolist())) == 5000
    assert item_keys(1, "encoder", 3, np.array([17]))[0] == keys[17]
    assert not (item_keys(1, "encoder", 4, items) == keys).any()
    bits = np.unpackbits(keys.view(np.uint8)).mean()
    assert abs(bits - 0.5) < 0.005


def test_partitions_have_the_published_sums() -> None:
    for skeleton, sums in ((NTU, [25, 24, 20]), (NW_UCLA, [20, 19, 15])):
        partition = spatial_partition(skeleton)
        assert partition.sum(axis=(1, 2)).round(5).tolist() == sums
        columns = partition.sum(axis=1).round(5)
        assert set(np.unique(columns)) <= {0.0, 1.0}


def test_inward_entries_lead_from_child_to_parent() -> None:
    partition = spatial_partition(NW_UCLA)
    child, parent = 7, NW_UCLA.parents[7]
    assert partition[1, parent, child] == 1.0
    assert partition[1, child, parent] == 0.0
    assert partition[2, child, parent] > 0.0


def test_longest_paths() -> None:
    assert hop_distance(NTU.graph_parents).max() == 11
    assert hop_distance(NW_UCLA.parents).max() == 10
    hops = hop_distance(NTU.parents)
    assert (hops == hops.T).all()
    assert (np.diag(hops) == 0).all()


@pytest.mark.parametrize(
    ("parents", "said"),
    [((1, 0), "root"), ((0, 1), "root"), ((0, 2, 1), "does not lead"), ((0, 5), "does not lead")],
)
def test_bad_trees_are_refused(parents: tuple[int, ...], said: str) -> None:
    names = tuple(f"j{i}" for i in range(len(parents)))
    with pytest.raises(UserError, match=said):
        Skeleton("own", names, parents, centre=0, origin=0)


def test_nearest_spelling() -> None:
    assert nearest("temprature", ["temperature", "epochs"]) == " (did you mean 'temperature'?)"
    assert nearest("xyz", ["temperature"]) == ""


def test_the_code_version_is_of_the_packages_own_files() -> None:
    release, _, digest = code_version().partition("+")
    assert release == __version__
    assert len(digest) == 10
