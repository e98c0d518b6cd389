"""A full disk, or a folder of somebody else's, ends data commands with a sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

from stdcl import atomic, cli


@pytest.mark.parametrize(("number", "advice"), [(28, "make room on its disk"), (13, "it belongs to somebody else")])
def test_data_commands_say_why_they_cannot_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], number: int, advice: str
) -> None:
    raw = tmp_path / "raw"
    assert cli.main(["data", "synth", "nw-ucla", "--out", str(raw), "--sequences", "30"]) == 0

    def refuse(staged: Path, final: Path) -> None:
        raise OSError(number, "refused")

    monkeypatch.setattr(atomic, "replace_dir", refuse)
    for words in (
        ["data", "synth", "nw-ucla", "--out", str(tmp_path / "a"), "--sequences", "30"],
        ["data", "synth", "ntu60", "--out", str(tmp_path / "b"), "--sequences", "12"],
        ["data", "prepare", "nw-ucla", "--raw", str(raw), "--out", str(tmp_path / "c"), "--allow-partial"],
    ):
        capsys.readouterr()
        assert cli.main(words) == cli.BAD_INPUT, words
        text = capsys.readouterr().err
        assert f"--out {words[4] if words[1] == 'synth' else tmp_path / 'c'}: not written to (refused)" in text
        assert advice in text
    assert [path.name for path in tmp_path.iterdir()] == ["raw"], "staging folders are left"
