"""The HTML page of a sweep: what it says, that it needs nothing else, and how it behaves in a real browser."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest

from stdcl.cli.command import main
from stdcl.report import svg
from stdcl.report.page import render, verdict_sentence
from stdcl.report.table import sweep_table
from tests.report.sweeps import Sweep, answers

TAU = "contrast.temperature"
ERROR = "Traceback\nRuntimeError: <script>no memory</script> & more"


def history(folder: Path, epochs: int) -> None:
    rows = [
        {"schema": 2, "epoch": n, "loss": 9.0 / n, "train_accuracy": 0.9 - 0.5 / n, "accuracy": 0.9 - 0.6 / n}
        for n in range(1, epochs + 1)
    ]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "history.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))


def sweep_of(folder: Path, *, values: tuple[float, ...] = (0.1, 0.5), epochs: int = 5, broken: bool = True) -> Path:
    sweep = Sweep(folder, (TAU,), "Is tau > 0.1 & <b>better</b>?", seeds=[1, 2], file={"seeds": [1, 2]})
    for seed in (1, 2):
        facts = {"command": "stdcl sweep 'a b.yaml'", "wandb_id": "w1d", "total_seconds": 125.0}
        history(folder / "trials" / sweep.add({}, seed, arm="baseline", right=answers(0.9, seed), **facts), epochs)
        for value in values:
            key = sweep.add({TAU: value}, seed, right=answers(0.9, seed, shift=0.05 if value == 0.5 else 0.0), **facts)
            history(folder / "trials" / key, epochs)
    if broken:
        sweep.add({TAU: 1.0}, 1, status="failed", error=ERROR)
        sweep.add({TAU: 1.0}, 2)
    return sweep.save()


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sweep_of(tmp_path_factory.mktemp("page") / "tau")


@pytest.fixture(scope="module")
def page(directory: Path) -> str:
    return render(sweep_table(directory), directory)


class Reader(HTMLParser):
    """Collects elements, ids, links, and texts outside of scripts and styles."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self._silent = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._silent += tag in ("script", "style")

    def handle_endtag(self, tag: str) -> None:
        self._silent -= tag in ("script", "style")

    def handle_data(self, data: str) -> None:
        if not self._silent:
            self.text.append(data)


def read(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    return reader


def test_the_page_needs_nothing_else(page: str) -> None:
    for tag, attributes in read(page).tags:
        assert tag not in ("link", "img", "iframe")
        assert "src" not in attributes
        assert not (attributes.get("href") or "#").startswith(("http", "//"))
    assert "url(" not in page
    assert "@import" not in page
    assert "default-src 'none'" in page


def test_everything_is_said_and_nothing_is_markup(page: str) -> None:
    text = " ".join("".join(read(page).text).split())
    table_sentence = "Of 3 comparisons:"
    for part in (
        "Is tau > 0.1 & <b>better</b>?",
        table_sentence,
        "1 without an answer yet",
        "RuntimeError: <script>no memory</script> & more",
        "1 not started: grid,temperature=1.0,seed=2",
        "stdcl sweep 'a b.yaml'",
        "w1d",
        "2 min 05 s",
        "code 1234567",
        "sha256 ",
    ):
        assert part in text
    assert "<script>no memory" not in page


def test_every_link_leads_somewhere_and_every_control_has_a_name(page: str) -> None:
    reader = read(page)
    ids = [a["id"] for _, a in reader.tags if "id" in a]
    assert len(ids) == len(set(ids))
    links = [a["href"] for tag, a in reader.tags if tag == "a"]
    assert len(links) > 10
    assert {str(link).removeprefix("#") for link in links} <= {str(each) for each in ids}
    assert all(a.get("aria-label") for tag, a in reader.tags if tag == "svg")
    assert all(a.get("aria-label") for _, a in reader.tags if a.get("tabindex") == "0")
    assert ("html", {"lang": "en"}) in reader.tags
    assert page.count("<label") >= sum(tag in ("input", "select") for tag, _ in reader.tags)


def test_the_same_inputs_give_the_same_bytes(directory: Path, page: str) -> None:
    assert render(sweep_table(directory), directory) == page


def test_two_hundred_trials_stay_below_five_megabytes(tmp_path: Path) -> None:
    values = tuple(round(0.05 * n, 2) for n in range(1, 20))
    directory = sweep_of(tmp_path / "many", values=values, epochs=110, broken=False)
    table = sweep_table(directory)
    size = len(render(table, directory).encode())
    empty = len(render(sweep_table(sweep_of(tmp_path / "few", values=(), broken=False)), tmp_path / "few").encode())
    per_trial = (size - empty) / len(table.trials)
    assert empty + 200 * per_trial < 5e6


def test_verdict_in_a_sentence(tmp_path: Path) -> None:
    nothing = Sweep(tmp_path / "nothing", (TAU,), file={"seeds": [1]})
    nothing.add({TAU: 0.5}, 1)
    assert verdict_sentence(sweep_table(nothing.save())) == "No trial is finished: nothing can be said yet."
    search = Sweep(tmp_path / "search", (TAU,), search="optuna")
    search.add({TAU: 0.5}, correct=300)
    said = verdict_sentence(sweep_table(search.save()))
    assert said.startswith("The best of 1 finished trials has 64.66 % (temperature 0.5)")
    one = sweep_of(tmp_path / "one", values=(0.5,), broken=False)
    verdict = sweep_table(one).cells[1].asked
    assert verdict is not None
    assert verdict.verdict is not None
    assert verdict_sentence(sweep_table(one)).startswith(f"temperature 0.5 - baseline: {verdict.verdict.word}: +")


def luminance(colour: str) -> float:
    digits = colour.lstrip("#")
    digits = "".join(2 * each for each in digits) if len(digits) == 3 else digits
    channels = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    red, green, blue = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_texts_and_marks_have_contrast_in_light_and_dark(page: str) -> None:
    """WCAG 2.1 AA: 4.5 for text, 3 for what a figure is drawn with."""
    blocks = re.findall(r":root[^{]*\{([^}]*--bg[^}]*)\}", page)[:3]
    assert len(blocks) == 3
    for block in blocks:
        colours = dict(re.findall(r"--([a-z0-9]+):\s*(#[0-9a-f]+)", block))

        def ratio(one: str, other: str, colours: dict[str, str] = colours) -> float:
            high, low = sorted((luminance(colours[one]), luminance(colours[other])), reverse=True)
            return (high + 0.05) / (low + 0.05)

        for ground in ("bg", "panel"):
            for name in ("fg", "soft", "link", "good", "bad", "same", "open"):
                assert ratio(name, ground) >= 4.5, (name, ground, colours)
        for number in range(svg.COLOURS):
            assert ratio(f"c{number}", "bg") >= 3.0, (number, colours)


def browser() -> str:
    names = ("chromium", "chromium-browser", "google-chrome")
    found = next((path for name in names if (path := shutil.which(name))), "")
    if not found:
        pytest.skip("no Chromium is installed: the page is not opened in a browser here (apt-get install chromium)")
    return found


CLICKS = """
<script>
addEventListener("load", function () {
  var out = {}, root = document.documentElement;
  out.opened = document.getElementById("trial-2").open;
  var before = getComputedStyle(document.body).backgroundColor;
  document.getElementById("theme").click();
  out.themed = getComputedStyle(document.body).backgroundColor !== before;
  var box = document.querySelector("[data-arm='1']"); box.click();
  out.hidden = Array.from(document.querySelectorAll(".series[data-series='1']")).every(
    function (part) { return getComputedStyle(part).display === "none"; });
  out.others = Array.from(document.querySelectorAll(".series[data-series='2']")).some(
    function (part) { return getComputedStyle(part).display !== "none"; });
  var state = document.getElementById("state"); state.value = "failed"; state.dispatchEvent(new Event("change"));
  out.failed = Array.from(document.querySelectorAll("details.trial")).filter(
    function (trial) { return getComputedStyle(trial).display !== "none"; }).length;
  state.value = ""; state.dispatchEvent(new Event("change"));
  dispatchEvent(new Event("beforeprint"));
  out.printed = Array.from(document.querySelectorAll("details.trial")).every(function (trial) { return trial.open; });
  out.wide = document.documentElement.scrollWidth <= innerWidth;
  var order = document.querySelectorAll("a, button, input, select, summary");
  out.reachable = Array.from(order).every(function (part) { return part.tabIndex >= 0; });
  root.setAttribute("data-result", JSON.stringify(out));
});
</script>
"""


@pytest.mark.parametrize("width", [1280, 500])
def test_in_a_browser(tmp_path: Path, page: str, width: int) -> None:
    """Opened at a trial: it is unfolded, figures and trials can be filtered, colours turned, everything printed."""
    program = browser()
    path = tmp_path / "page.html"
    first = "<legend>Show</legend><label>"
    assert first in page
    long = page.replace(first, first + "hard_positives=128," * 8)  # a name without a space still fits a phone
    path.write_text(long.replace("</body>", f"{CLICKS}</body>"))
    command = [
        program, "--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}",
        f"--window-size={width},900", "--enable-logging=stderr", "--dump-dom", f"file://{path}#trial-2",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    found = re.search(r'data-result="([^"]*)"', done.stdout)
    assert found, done.stderr[-2000:]
    result = json.loads(found.group(1).replace("&quot;", '"'))
    assert result == {
        "opened": True, "themed": True, "hidden": True, "others": True, "failed": 1, "printed": True, "wide": True,
        "reachable": True,
    }  # fmt: skip
    assert "CONSOLE" not in done.stderr


def test_the_command_writes_the_page(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(directory), "--html"]) == 1  # a trial failed
    assert "report.html" in capsys.readouterr().out
    assert (directory / "report" / "report.html").read_text().startswith("<!doctype html>")


def test_long_labels_are_broken_and_whole_in_their_title() -> None:
    name = "stream=joint-motion,strategy=spatial+temporal+global,embedding_dim=256"
    figure = svg.intervals("t", [svg.Interval(name, 1.0, 0.5, 1.5, (("seed 1", 1.1),), "better", 0)], "points")
    lines = re.findall(r"<tspan[^>]*>([^<]*)</tspan>", figure)
    assert len(lines) == 2
    assert max(map(len, lines)) <= 33
    assert f"<title>{name}</title>" in figure


def test_curves_leave_out_what_is_no_number() -> None:
    figure = svg.curves("t", [svg.Curve("a", ((1.0, 2.0), (2.0, float("nan")), (3.0, 4.0)), 0)], "%")
    (points,) = re.findall(r'points="([^"]*)"', figure)
    assert len(points.split()) == 2
    assert not svg.curves("t", [svg.Curve("a", ((1.0, float("nan")),), 0)], "%")


def test_thinned_curves_keep_both_ends() -> None:
    values = [(float(n), float(n)) for n in range(1000)]
    found = svg.thinned(values, 60)
    assert (len(found), found[0], found[-1]) == (60, values[0], values[-1])
    assert svg.thinned(values[:60], 60) == tuple(values[:60])


def test_the_papers_table_stands_beside_and_its_cells_open_their_runs(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path / "two", ("encoder.name", "data.stream"), seeds=[1, 2], file={"table": "2", "seeds": [1, 2]})
    for stream in ("joint", "bone"):
        for seed in (1, 2):
            parameters = {"encoder.name": "ctrgcn", "data.stream": stream}
            sweep.add(parameters, seed, arm="baseline", right=answers(0.8, seed))
            sweep.add(parameters, seed, right=answers(0.8, seed, shift=0.15))
    directory = sweep.save()
    assert main(["report", str(directory), "--html"]) == 0
    page = (directory / "report" / "report.html").read_text()
    reader = read(page)
    text = " ".join("".join(reader.text).split())
    assert "The paper's Table 2" in text
    assert "[97.2*]" in text  # printed, not run here
    section = page[page.index('id="paper"') : page.index('id="figures"')]
    for trial in range(1, 9):
        assert f'href="#trial-{trial}"' in section
    assert re.search(r'<span class="whole better">\+15\.\d+ better</span>', section)
    # What was run stands above what is only printed.
    assert section.index('scope="row" class="l">CTR-GCN') < section.index('<tr class="printed">')
    ids = {a.get("id") for _, a in reader.tags}
    links = {str(a["href"]).removeprefix("#") for tag, a in reader.tags if tag == "a"}
    assert links <= ids


def test_what_is_unfinished_is_named_by_its_state(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep = Sweep(tmp_path / "tau", (TAU,), seeds=[1], file={"table": "tau", "seeds": [1]})
    sweep.add({TAU: 0.5}, right=answers(0.9, 1))
    key = sweep.add({TAU: 0.8}, status="interrupted", epochs_done=2)
    directory = sweep.save()
    assert main(["report", str(directory), "--html"]) == 1
    assert "1 planned trials are not finished" in " ".join(capsys.readouterr().out.split())
    assert f"1 interrupted: {key}" in (directory / "report" / "report.html").read_text()


def test_damaged_histories_and_configurations_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    directory = sweep_of(tmp_path / "tau", values=(0.5,), epochs=2, broken=False)
    assert main(["report", str(directory)]) == 0
    folder = directory / "trials" / "grid,temperature=0.5,seed=1"
    (folder / "history.jsonl").write_text("{\n{}\n")
    (folder / "config.yaml").write_text("{")
    capsys.readouterr()
    assert main(["report", str(directory), "--html"]) == 1
    assert "config.yaml: damaged, or of another version" in " ".join(capsys.readouterr().out.split())
    assert "curves left out: " in (directory / "report" / "report.html").read_text()
