"""Features of two arms side by side, and how their confusions differ: numbers from made-up runs, then the files."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stdcl.cli.command import main
from stdcl.errors import UserError
from stdcl.report import page_comparison, svg
from stdcl.report.confusion import confusion, confusion_change
from stdcl.report.page import render
from stdcl.report.page_comparison import cell_views
from stdcl.report.projection import feature_pair, neighbours_of_own_class, pca, tsne
from stdcl.report.table import sweep_table
from stdcl.results.features import Features, read_features, write_features
from stdcl.results.layout import RunFolder
from stdcl.results.scores import Scores, read_scores
from tests.report.sweeps import Sweep

TAU = "contrast.temperature"
N = 464


def features(folder: Path, fingerprint: str, spread: float) -> Features:
    """Two classes at distance 2 along the first of five axes, and noise."""
    scores = read_scores(folder / "scores.parquet")
    vectors = np.random.default_rng(0).normal(scale=spread, size=(N, 5)).astype(np.float32)
    vectors[:, 0] += 2.0 * scores.labels
    return Features(scores.ids, scores.labels, vectors, ("sit", "stand"), scores.data_hash, fingerprint, "epoch-1")


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    sweep = Sweep(tmp_path / "tau", (TAU,), "Are classes further apart?", seeds=[1, 2], file={"seeds": [1, 2]})
    half = np.arange(N) % 4 < 2
    for seed in (1, 2):
        sweep.add({}, seed, arm="baseline", right=half)
        sweep.add({TAU: 0.5}, seed, right=half | (np.arange(N) % 4 == 2))
    directory = sweep.save()
    for arm, spread in (("baseline", 2.0), ("grid,temperature=0.5", 0.1)):
        key = f"{arm},seed=2"  # the first seed has none
        folder = RunFolder(directory / "trials" / key)
        write_features(folder.features(), features(folder.root, f"f-{key}", spread))
    return directory


def test_features_are_read_as_they_were_written(directory: Path) -> None:
    path = RunFolder(directory / "trials" / "baseline,seed=2").features()
    found = read_features(path)
    assert np.array_equal(found.vectors, features(path.parent, "f-baseline,seed=2", 2.0).vectors)
    assert (found.classes, found.fingerprint) == (("sit", "stand"), "f-baseline,seed=2")
    for content in (b"", path.read_bytes()[:200], (path.parent / "scores.parquet").read_bytes()):
        path.write_bytes(content)
        with pytest.raises(UserError, match="not a readable file of features"):
            read_features(path)
    path.unlink()
    with pytest.raises(UserError, match="stdcl evaluate --features"):
        read_features(path)


def test_pca_is_the_projection_of_largest_variance() -> None:
    rng = np.random.default_rng(3)
    places = rng.normal(size=(200, 2)) * [5.0, 2.0]
    turned = np.linalg.qr(rng.normal(size=(6, 6)))[0][:2]
    found, explained = pca(places @ turned + 7.0)
    assert explained == pytest.approx(1.0)
    # Distances are those of the plane that the points lie in.
    assert np.linalg.norm(found[0] - found[9]) == pytest.approx(np.linalg.norm(places[0] - places[9]))
    assert found[:, 0].var() >= found[:, 1].var()


def test_neighbours_of_the_own_class_against_a_plain_count() -> None:
    rng = np.random.default_rng(4)
    x, labels = rng.normal(size=(40, 3)), rng.integers(0, 3, 40)
    shares = []
    for i in range(40):
        order = sorted((j for j in range(40) if j != i), key=lambda j: float(((x[i] - x[j]) ** 2).sum()))
        shares.append(np.mean([labels[j] == labels[i] for j in order[:10]]))
    assert neighbours_of_own_class(x, labels) == pytest.approx(np.mean(shares))


def test_a_cell_stands_beside_what_it_is_compared_with(directory: Path) -> None:
    table = sweep_table(directory)
    assert feature_pair(table, table.cells[0]) is None
    pair = feature_pair(table, table.cells[1])
    assert pair is not None
    base, mine = pair.maps
    assert (base.label, mine.label) == ("baseline", "temperature=0.5")
    assert mine.separation == 1.0 > base.separation
    assert pair.classes == {0: "sit", 1: "stand"}
    assert pair.chosen == "all classes"
    assert "464 sequences, seed 2" in pair.caption
    only = feature_pair(table, table.cells[1], "pca", ["stand"])
    assert only is not None
    assert (only.maps[0].labels == 1).all()
    with pytest.raises(UserError, match=r"--classes: no class 'stnd'.*stand"):
        feature_pair(table, table.cells[1], "pca", ["stnd"])


def test_features_of_another_training_or_of_other_sequences_are_refused(directory: Path) -> None:
    table = sweep_table(directory)
    folder = RunFolder(directory / "trials" / "baseline,seed=2")
    good = read_features(folder.features())
    write_features(folder.features(), Features(**{**vars(good), "fingerprint": "f-other"}))
    with pytest.raises(UserError, match="features are of another training"):
        feature_pair(table, table.cells[1])
    write_features(folder.features(), Features(**{**vars(good), "data_hash": "other"}))
    with pytest.raises(UserError, match="are of different sequences"):
        feature_pair(table, table.cells[1])


def test_the_page_shows_classes_confusions_and_maps(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = sweep_table(directory)
    (cell,), left_out = cell_views(table)
    assert (cell.name, left_out) == ("temperature=0.5", 0)
    assert cell.classes is not None
    assert "class 0 (232): 50.00" in cell.classes
    assert cell.confusions is not None
    assert [[change.text for change in row] for row in cell.confusions.matrix] == [["+50.0", "-50.0"], ["", ""]]
    assert [change.merit for change in cell.confusions.matrix[0]] == [1.0, 1.0]
    assert cell.features is not None
    assert [name for name, *_ in cell.features.classes] == ["sit", "stand"]
    assert cell.features.figure.count("<title>sit: clip") == 2 * 232
    page = render(table, directory)
    assert 'data-class-of="1"' in page
    assert '<td class="own" title="called class 0" style="background: color-mix(in srgb, var(--good) 45%' in page
    # Many sequences and classes: the page stays small, and says what it leaves out.
    monkeypatch.setattr(svg, "MOST_POINTS", 100)
    monkeypatch.setattr(page_comparison, "MATRIX", 1)
    (cell,), _ = cell_views(table)
    assert cell.features is not None
    assert cell.features.figure.count("<title>") == 2 * 100 + 2
    assert "100 of these sequences are drawn" in cell.features.caption
    assert cell.confusions is not None
    assert [(true, called, c.text) for true, called, c in cell.confusions.pairs] == [
        ("class 0 (232)", "class 1", "-50.0")
    ]
    monkeypatch.setattr(page_comparison, "MOST_CELLS", 0)
    assert "1 more cells are not shown so" in render(table, directory)


def test_a_page_says_which_features_do_not_fit(directory: Path) -> None:
    folder = RunFolder(directory / "trials" / "baseline,seed=2")
    write_features(folder.features(), Features(**{**vars(read_features(folder.features())), "fingerprint": "f-other"}))
    assert "features left out: " in render(sweep_table(directory), directory)
    with pytest.raises(UserError, match="features are of another training"):
        render(sweep_table(directory), directory, classes=["sit"])


def test_tsne_is_seeded_and_says_what_it_needs(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if importlib.util.find_spec("sklearn") is None:
        assert main(["report", str(directory), "--figures", "--projection", "tsne"]) == 2
        assert "pip install 'stdcl[tsne]'" in capsys.readouterr().err
        pytest.skip("scikit-learn is not installed: t-SNE was refused, and is not computed here")
    x = np.random.default_rng(0).normal(size=(60, 5))
    x[30:] += 20.0
    one, two = tsne(x), tsne(x)
    assert np.array_equal(one, two)
    assert neighbours_of_own_class(one, np.arange(60) // 30) == 1.0
    table = sweep_table(directory)
    pair = feature_pair(table, table.cells[1], "tsne")
    assert pair is not None
    assert "t-SNE, perplexity 30, start by PCA, 1,000 steps, random seed 0" in pair.caption


def test_confusions_against_a_plain_count() -> None:
    rng = np.random.default_rng(5)
    labels, logits = rng.integers(0, 4, 50), rng.normal(size=(50, 4)).astype(np.float32)
    scores = Scores(np.arange(50).astype(str).astype(object), labels, logits, "d", "p", "h", "s", "e")
    expected = np.zeros((4, 4), dtype=int)
    for label, row in zip(labels, logits, strict=True):
        expected[label, row.argmax()] += 1
    assert np.array_equal(confusion(scores), expected)


def test_the_change_of_confusions_is_in_points_of_the_true_class(directory: Path) -> None:
    """Half of class 0 was called class 1 by the baseline, and is right now; class 1 did not change."""
    table = sweep_table(directory)
    found = confusion_change(table, table.cells[1])
    assert found is not None
    assert found.change.tolist() == [[50.0, -50.0], [0.0, 0.0]]
    assert found.seeds == (1, 2)
    assert confusion_change(table, table.cells[0]) is None


def test_the_command_draws_them(directory: Path) -> None:
    assert main(["report", str(directory), "--figures"]) == 0
    names = {path.name for path in (directory / "report").iterdir()}
    assert {f"{stem}_2.{kind}" for stem in ("features", "confusions") for kind in ("png", "pdf")} <= names
    for stem in ("features_2", "confusions_2"):
        assert b"/FontFile2" in (directory / "report" / f"{stem}.pdf").read_bytes()


def test_damaged_logits_are_named_and_take_nothing_else_with_them(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The table reads which sequences are right, and never the logits: the page is where they are missed."""
    path = directory / "trials" / "grid,temperature=0.5,seed=1" / "scores.parquet"
    content = pq.read_table(path)
    place = content.schema.get_field_index("logits")
    logits = content.column("logits").to_pylist()
    logits[0][0] = float("nan")
    field = content.schema.field(place)
    pq.write_table(content.set_column(place, field, pa.array(logits, type=field.type)), path)
    assert main(["report", str(directory), "--html", "--figures"]) == 1
    assert f"! scores left out: {path}: " in capsys.readouterr().out
    said = (directory / "report" / "report.html").read_text()
    assert f"scores left out: {path}: " in said
    assert "have scores that are not finite" in said
    (view,), _ = cell_views(sweep_table(directory))
    assert view.confusions is not None
    assert "mean over 1 seed," in view.confusions.caption
