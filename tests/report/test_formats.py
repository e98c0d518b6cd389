"""How tables are laid out: no line wider than asked for, nothing lost, and LaTeX that compiles."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stdcl.report.display import BREAK, Display, one_line
from stdcl.report.formats import latex, markdown, text
from stdcl.report.formats.layout import arrange, lines_of
from stdcl.report.load import load_sweep_state
from stdcl.report.paper import paper_table
from stdcl.report.paper_wording import paper_display
from stdcl.report.table import sweep_table
from stdcl.report.wording import display
from tests.report.sweeps import Sweep, temperature_sweep

WORDS = st.text("abc[]±–", min_size=1, max_size=9)
CELLS = st.lists(WORDS, min_size=1, max_size=3).map(BREAK.join)


@st.composite
def displays(draw: st.DrawFn) -> Display:
    columns = draw(st.integers(1, 9))
    rows = draw(st.lists(st.tuples(*[CELLS] * columns), min_size=1, max_size=4))
    return Display(
        title="t",
        lines=("what is asked",),
        columns=draw(st.tuples(*[CELLS] * columns)),
        left=draw(st.tuples(*[st.booleans()] * columns)),
        rows=tuple(rows),
        notes=("a note " * 30,),
        leading=draw(st.integers(0, min(2, columns))),
    )


@given(displays(), st.integers(30, 100))
def test_a_table_fits_and_loses_nothing(shown: Display, width: int) -> None:
    shown, blocks = arrange(shown, width)
    others = [index for block in blocks for index in block.columns if index >= shown.leading]
    assert others == list(range(shown.leading, len(shown.columns)))
    for block in blocks:
        assert block.columns[: shown.leading] == tuple(range(shown.leading))
        # A word has at most 9 characters, so two columns fit into 30.
        assert block.width <= width
        for index, wide in zip(block.columns, block.widths, strict=True):
            for row in (shown.columns, *(row for row in shown.rows)):
                lines = lines_of(row[index], wide)
                assert " ".join(lines) == one_line(row[index])
                assert max(map(len, lines)) <= wide
    assert max(map(len, text.render(shown, width).splitlines())) <= width


def test_no_table_is_cut_that_fits() -> None:
    shown = Display("t", (), ("a", "b"), (True, False), ((f"x{BREAK}y", f"1{BREAK}2"),), ())
    assert text.render(shown, 80).splitlines()[2:5] == ["a      b", "--------", "x y  1 2"]
    assert text.render(shown, 7).splitlines()[2:6] == ["a    b", "------", "x y  1", "     2"]


def sweeps(folder: Path) -> list[Sweep]:
    tau = "contrast.temperature"
    whole = temperature_sweep(folder / "tau", {None: [436, 439, 433], 0.5: [440, 441, 436], 0.8: [441, 444, 440]})
    many = Sweep(folder / "many", ("encoder.name", "data.stream", tau, "contrast.embedding_dim", "training.milestones"))
    for encoder in ("ctrgcn", "hyperformer"):
        plain = {"encoder.name": encoder, "data.stream": "bone-motion", "training.milestones": [100, 200, 300]}
        for seed in (1, 2):
            config = {"training.schedule": "step", "training.epochs": 400}
            many.add(plain, seed, arm="baseline", correct=430 + seed, config=config)
            many.add({**plain, tau: 0.05, "contrast.embedding_dim": 1024}, seed, correct=440 - seed, config=config)
    many.add({**plain, tau: 0.5, "contrast.embedding_dim": 64}, 1, status="failed", error="x" * 300)
    many.add({**plain, tau: 0.5, "contrast.embedding_dim": 64}, 2)
    space = tuple(
        f"contrast.{name}" for name in ("temperature", "channel_reduction", "embedding_dim", "hard_positives")
    )
    search = Sweep(folder / "search_of_many", (*space, "training.learning_rate"), search="optuna")
    for trial in range(12):
        values = {name: 0.000123456 * (trial + 1) if "temp" in name else 8 * (trial + 1) for name in space}
        facts = {"evaluated_on": "validation", "num_test": 200}
        search.add({**values, "training.learning_rate": 0.0123456}, correct=100 + trial, config=None, **facts)
    odd = Sweep(folder / "a_b", (tau,), question="Is 100 % & more | $x_1$ ~good^2? {Yes} #1 \\\\ <or> τ ≥ 0.5 – 中 é")
    odd.add({tau: 0.5}, correct=440)
    return [whole, many, search, odd]


@pytest.mark.parametrize("index", range(4))
def test_terminal_tables_are_80_columns_wide(tmp_path: Path, index: int) -> None:
    table = sweep_table(sweeps(tmp_path)[index].save())
    lines = text.render(display(table)).splitlines()
    assert not [line for line in lines if len(line) > 80 and "x" * 100 not in line]  # a word is not broken


def compiled(folder: Path, shown: Display) -> None:
    """Compile a table by itself and in a paper, as wide and as high as the page at most."""
    if shutil.which("pdflatex") is None:
        pytest.skip("pdflatex is not installed: LaTeX tables are not compiled here")
    (folder / "table.tex").write_text(latex.render(shown))
    paper = r"\documentclass[10pt,twocolumn]{article}\usepackage{booktabs}\textwidth=496pt\begin{document}text" + "\n"
    (folder / "paper.tex").write_text(paper + "\\input{table}\n\\input{table}\n\\end{document}\n")
    for name in ("table", "paper"):
        command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", f"{name}.tex"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, encoding="latin-1")
        assert done.returncode == 0, done.stdout[-3000:]
        assert not re.findall(r"Overfull \\hbox.*|Float too large.*", done.stdout), done.stdout[-3000:]
        assert (folder / f"{name}.pdf").stat().st_size > 1000


@pytest.mark.parametrize("index", range(4))
def test_latex_compiles_and_fits_a_two_column_page(tmp_path: Path, index: int) -> None:
    compiled(tmp_path, display(sweep_table(sweeps(tmp_path)[index].save())))


@pytest.mark.parametrize("name", ["1", "2"])
def test_latex_of_the_papers_tables_compiles_and_fits(tmp_path: Path, name: str) -> None:
    sweep = replace(sweeps(tmp_path)[1], file={"table": name})
    compiled(tmp_path, paper_display(paper_table(name, [load_sweep_state(sweep.save())])))


@given(st.integers(1, 150), st.integers(1, 3), st.integers(0, 60))
def test_every_row_and_note_of_a_long_table_is_in_some_float(rows: int, lines: int, notes: int) -> None:
    cells = tuple((f"row{n}.", BREAK.join(["wide" * 8] * lines)) for n in range(rows))
    shown = Display("t", ("asked",), ("a", "b"), (True, False), cells, tuple(f"note{n}." for n in range(notes)))
    said = latex.render(shown)
    for n in range(rows):
        assert said.count(f"row{n}. ") == 1
    for n in range(notes):
        assert said.count(f"note{n}.") == 1
    floats = said.split("\\begin{table*}")[1:]
    assert len(floats) == said.count("\\end{table*}")
    # 592 pt hold 62 lines of 9.5 pt; what is not a row (rules, space, caption) takes some of them.
    assert max(part.count(" \\\\\n") for part in floats) <= 55


def test_latex_has_rules_and_its_legend(tmp_path: Path) -> None:
    shown = display(sweep_table(sweeps(tmp_path)[0].save()))
    said = latex.render(shown)
    for rule in ("toprule", "midrule", "bottomrule"):
        assert f"\\{rule}" in said
    assert latex.escaped(shown.notes[1]) in said
    assert "hline" not in said
    assert "\n{*} the paper picks tau" in said  # not \\*, which is LaTeX's own


def test_markdown_has_one_line_per_row(tmp_path: Path) -> None:
    shown = display(sweep_table(sweeps(tmp_path)[1].save()))
    rows = [line for line in markdown.render(shown).splitlines() if line.startswith("|")]
    assert len(rows) == 2 + len(shown.rows)
    assert len({len(re.findall(r"(?<!\\)\|", row)) for row in rows}) == 1
    assert markdown.render(replace(shown, notes=("* a",))).endswith("- \\* a\n")
