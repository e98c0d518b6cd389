"""The commands in the pages about clusters are commands that there are."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from stdcl.cli.command import root
from stdcl.config.shipped import shipped_sweeps

ROOT = Path(__file__).resolve().parents[2]
PAGES = ("clusters.md", "ntu_on_slurm.md")


def _commands(page: str) -> Iterator[str]:
    """Every ``stdcl ...`` in a block of code or in backticks, without what a reader fills in."""
    text = (ROOT / "docs" / page).read_text().replace("\\\n", " ")
    spans = re.findall(r"`([^`\n]+)`", text)
    lines = [
        line for block in re.findall(r"^```\n(.*?)^```", text, re.MULTILINE | re.DOTALL) for line in block.splitlines()
    ]
    for line in [*spans, *lines]:
        found = re.search(r"(?<![\w/.~-])stdcl [a-z].*", line.partition("#")[0])
        if found and not line.startswith("error:"):
            yield re.sub(r"\[.*?\](\.\.\.)?", "", re.sub(r"'(seeds=[^']*)'", r"\1", found[0])).strip(" ',&")


@pytest.mark.parametrize("command", sorted({command for page in PAGES for command in _commands(page)}))
def test_a_documented_command_is_understood(command: str) -> None:
    words = shlex.split(command)[1:]
    group: click.Command = root()
    while isinstance(group, click.Group):
        found = group.get_command(click.Context(group), words[0])
        assert found is not None, f"there is no 'stdcl {words[0]}'"
        group, words = found, words[1:]
    options = {name for option in group.params for name in option.opts} | {"--help"}
    assert {word for word in words if word.startswith("--")} <= options


@pytest.mark.parametrize("page", PAGES)
def test_the_sweeps_of_the_pages_are_shipped(page: str) -> None:
    text = (ROOT / "docs" / page).read_text()
    named = re.findall(r"(?:submit\.py|slurm\.sbatch|stdcl submit) ([a-z][\w/]*)", text)
    assert named
    assert set(named) <= set(shipped_sweeps())


@pytest.mark.parametrize("page", PAGES)
def test_the_files_of_the_pages_exist(page: str) -> None:
    text = (ROOT / "docs" / page).read_text()
    for path in re.findall(r"\b((?:ray_cluster|tests|sweeps)/[\w/]+\.\w+)", text):
        assert (ROOT / path).exists(), path
