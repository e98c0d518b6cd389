"""What a referee would say of a table."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import pytest

from stdcl.cli.command import main
from stdcl.errors import UserError
from stdcl.report.lint import lint, read_numbers
from tests.report.sweeps import Sweep, answers

PAPER = Path(str(files("stdcl.report").joinpath("reported_results.csv")))

SUSPECT = (
    # What is suspect about the STD-CL paper's own numbers, found by hand beforehand.
    ("identical rows", "TA-CNN and 2S-AGCN: all 8 numbers on ntu60 are the same"),
    ("baseline's number", "CTR-GCN w/STD-CL ntu120 x-sub 4S: 88.9 is the baseline's number"),
    ("baseline's number", "CTR-GCN w/STD-CL ntu120 x-set 4S: 90.5 is the baseline's number"),
    ("fewer streams are better", "CTR-GCN w/STD-CL ntu120 x-sub 4S: 88.9 is below its own 2S, 89.3"),
    ("loss", "2S-AGCN w/STD-CL ntu120 x-set bone: 86.3 is below the baseline's 86.4"),
    ("loss", "2S-AGCN w/STD-CL ntu120 x-set 4S: 89.6 is below the baseline's 89.8"),
    ("mostly empty", "2 of the 4 cells"),
    ("mostly empty", "4 of the 5 cells"),
    ("mostly empty", "14 of the 14 cells"),
    ("unlabelled", "6 numbers do not say of which stream they are; by their values they are of the stream joint"),
    ("not the best", "STD-CL ntu120 x-sub joint: 85.5 is tied with FR Head, GAP"),
    ("not the best", "STD-CL ntu120 x-sub joint: 85.5 is below SkeletonGCL 85.6"),
    ("impossible number", "CTR-GCN nw-ucla cross-view 4S: 96.5 is no number of 464 sequences (448 are 96.55)"),
    ("small gain", "Info-GCN w/STD-CL nw-ucla cross-view 4S: a gain of 0.2 points is below one of 464"),
    ("small gain", "of 16 gains are within one binomial standard error"),
    ("different groups", "levels of difficulty"),
    ("baseline above re-runs", "CTR-GCN nw-ucla cross-view 4S: 96.5, but 2 run(s) by others or by us give 95 to 95.5"),
    ("baseline above re-runs", "CTR-GCN ntu60 x-view 4S: 96.8, but 1 run(s) by others or by us give 96.51"),
    ("baseline above re-runs", "HCN (original paper, len 32, fc 256) ntu60 x-sub 2S: 86.5, but"),
)


@pytest.mark.parametrize(("rule", "text"), SUSPECT)
def test_the_papers_own_suspect_cells_are_found(rule: str, text: str) -> None:
    assert [f for f in lint(read_numbers(PAPER)) if f.rule == rule and text in f.text]


def test_the_drafted_tables_are_named() -> None:
    empty = [f.source[-4:] for f in lint(read_numbers(PAPER)) if f.rule == "mostly empty"]
    assert empty == ["4(a)", "4(b)", "4(c)", "4(e)"]


def test_only_one_number_of_table_2_is_impossible() -> None:
    """Every other one is a whole number of 464 sequences, rounded."""
    found = [f for f in lint(read_numbers(PAPER)) if f.rule == "impossible number" and "Table 2" in f.source]
    assert len(found) == 1


HEADER = "method,encoder,arm,dataset,protocol,stream,parameter,value,reported,metric\n"


def write(path: Path, *rows: str) -> Path:
    path.write_text(HEADER + "".join(f"{row}\n" for row in rows))
    return path


def test_a_sound_table_has_no_finding(tmp_path: Path) -> None:
    rows = []
    for stream, base, ours in (("joint", "83.0", "85.0"), ("bone", "84.0", "86.1"), ("2S", "87.0", "89.0")):
        rows += [
            f"X,ctrgcn,baseline,ntu120,x-sub,{stream},,,{base},",
            f"X w/STD-CL,ctrgcn,std-cl,ntu120,x-sub,{stream},,,{ours},",
        ]
    assert lint(read_numbers(write(tmp_path / "t.csv", *rows))) == []


def test_a_sweeps_table_and_a_report_are_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep = Sweep(tmp_path / "tau", ("contrast.temperature",), seeds=[1], file={"seeds": [1], "table": "2"})
    sweep.add({}, arm="baseline", right=answers(0.96, 1))
    sweep.add({"contrast.temperature": 0.5}, right=answers(0.9, 1))
    directory = sweep.save()
    assert main(["table", str(directory)]) == 0
    assert main(["report", str(directory)]) == 0
    capsys.readouterr()
    assert main(["lint", str(directory / "report" / "table.csv")]) == 1
    assert "loss: contrast.temperature 0.5 nw-ucla cross-view joint" in capsys.readouterr().out
    assert main(["lint", str(directory / "report" / "table_2.csv")]) == 1
    said = capsys.readouterr().out
    assert "table_2, ours: loss: CTR-GCN w/STD-CL nw-ucla cross-view joint" in said
    assert "our baseline is better than published" in said


def test_a_papers_own_words_are_read(tmp_path: Path) -> None:
    """As somebody types a table: its columns are called setting and accuracy, its streams J, B, 2S and 4S."""
    path = tmp_path / "typed.csv"
    path.write_text(
        "method,dataset,setting,stream,accuracy,source\n"
        "InfoGCN,NW-UCLA,cross-view,J,93.8,Table 2\n"
        "Info-GCN w/STD-CL,NW-UCLA,cross-view,J,93.8,Table 2\n"
        "Info-GCN w/STD-CL,NW-UCLA,cross-view,2S,95.7,Table 2\n"
        "Info-GCN w/STD-CL,NW-UCLA,cross-view,4S,95.5,Table 2\n"
        "FR Head,NTU120,X-Sub,J,85.5,Table 3\n"
        "STD-CL,NTU120,X-Sub,J,85.5,Table 3\n"
    )
    found = [(finding.rule, finding.text) for finding in lint(read_numbers(path))]
    assert ("baseline's number", "Info-GCN w/STD-CL nw-ucla cross-view joint: 93.8 is the baseline's number") in found
    assert ("not the best", "STD-CL ntu120 x-sub joint: 85.5 is tied with FR Head") in found
    assert any(rule == "fewer streams are better" and "4S: 95.5 is below its own 2S" in text for rule, text in found)


def test_files_that_are_no_table_are_refused(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("a,b\n1,2\n")
    for path, said in (
        (tmp_path / "x.csv", "not a table of results; expected the columns"),
        (tmp_path / "none.csv", "cannot be read as CSV"),
        (write(tmp_path / "y.csv", "X,,,ntu120,x-sub,joint,,,abc,"), "line 2: 'abc' is not a number"),
        (write(tmp_path / "z.csv", "X,,,ntu120,x-sub,joint,,,nan,"), "line 2: 'nan' is not a number"),
    ):
        with pytest.raises(UserError, match=said):
            read_numbers(path)


def test_files_of_a_spreadsheet_and_lines_of_another_length(tmp_path: Path) -> None:
    file = tmp_path / "table.csv"
    text = PAPER.read_text(encoding="utf-8")
    file.write_text(text, encoding="utf-8-sig")
    assert read_numbers(file) == read_numbers(PAPER)
    header, first = text.splitlines()[:2]
    columns = header.count(",") + 1
    for line, said in (("x,y", f"line 3: 2 values for {columns} columns"), (f"{first},more", "line 3: ")):
        file.write_text("\n".join([header, first, line]) + "\n", encoding="utf-8")
        with pytest.raises(UserError, match=said):
            read_numbers(file)
