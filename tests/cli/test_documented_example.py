"""The verb that docs/adding.md shows is one module in ``stdcl/cli/``: it has help, runs, and is found when misspelt."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest

import stdcl.cli
from stdcl.cli import BAD_INPUT, DONE, main
from stdcl.cli.command import root

SECTION = (Path(__file__).parents[2] / "docs" / "adding.md").read_text(encoding="utf-8").split("\n## A verb\n")[1]
(FILE,) = re.findall(r"```python\n(.*?)```", SECTION.split("\n## ")[0], re.DOTALL)


@dataclass
class Greeting:
    name: str

    def render(self) -> str:
        return f"good day, {self.name}"


@pytest.fixture
def added(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """As if the module were in the package, and the function below ``stdcl/cli/`` that it calls."""
    (tmp_path / "greetings.py").write_text(FILE, encoding="utf-8")
    monkeypatch.setattr(stdcl.cli, "__path__", [*stdcl.cli.__path__, str(tmp_path)])
    below = ModuleType("stdcl.runs.greeting")
    below.greeting = Greeting  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "stdcl.runs.greeting", below)
    root.cache_clear()
    yield
    root.cache_clear()
    sys.modules.pop("stdcl.cli.greetings", None)
    if hasattr(stdcl.cli, "greetings"):
        del stdcl.cli.greetings


@pytest.mark.usefixtures("added")
def test_the_documented_verb_runs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["greet", "you"]) == DONE
    assert capsys.readouterr().out == "good day, you\n"
    assert main(["--help"]) == DONE
    assert "Greet somebody." in capsys.readouterr().out
    assert main(["gret", "you"]) == BAD_INPUT
    assert "did you mean 'greet'?" in capsys.readouterr().err
