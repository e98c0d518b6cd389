"""The live line: redrawn on a terminal, now and then a line elsewhere, never in the way of what is printed."""

from __future__ import annotations

import io
import logging

import pytest

from stdcl.cli.live import Live


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_on_a_terminal_the_line_is_redrawn_and_makes_room(capsys: pytest.CaptureFixture[str]) -> None:
    stream, texts = Terminal(), iter(["one", "one", "two", ""])
    live = Live(lambda: next(texts), stream)
    for _ in range(4):
        live.refresh()
    assert stream.getvalue() == "\r\033[Kone\r\033[Ktwo"
    live.print("row")
    assert stream.getvalue().endswith("two\r\033[K")
    assert capsys.readouterr().out == "row\n"


def test_the_line_is_cut_to_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    stream = Terminal()
    Live(lambda: "x" * 50, stream).refresh()
    assert stream.getvalue() == "\r\033[K" + "x" * 19


def test_a_table_is_redrawn_from_its_first_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    monkeypatch.setenv("LINES", "4")
    stream, texts = Terminal(), iter(["one\ntwo", "1\n2\n3\n4", "end"])
    live = Live(lambda: next(texts), stream)
    for _ in range(3):
        live.refresh()
    assert stream.getvalue() == "\r\033[Kone\ntwo\r\033[1A\033[J1\n2\n3\r\033[2A\033[Jend", "3 lines do not scroll"
    live.print("row")
    assert stream.getvalue().endswith("end\r\033[K")
    assert capsys.readouterr().out == "row\n"


def test_without_a_terminal_lines_come_after_a_pause(capsys: pytest.CaptureFixture[str]) -> None:
    now, stream = [0.0], io.StringIO()
    live = Live(lambda: f"at {now[0]:g}", stream, clock=lambda: now[0], plain_interval=30.0)
    for now[0] in (1.0, 29.0, 30.0, 31.0, 59.0, 61.0):
        live.refresh()
    assert stream.getvalue() == "at 30\nat 61\n"
    now[0] = 80.0
    live.print("row")
    now[0] = 100.0
    live.refresh()
    assert stream.getvalue() == "at 30\nat 61\n"
    now[0] = 110.0
    live.refresh()
    assert stream.getvalue().endswith("at 110\n")


def test_log_records_and_the_end_clear_the_line() -> None:
    stream = Terminal()
    handler = logging.StreamHandler(stream)
    logging.getLogger().addHandler(handler)
    try:
        with Live(lambda: "busy", stream) as live:
            live.refresh()
            logging.getLogger("stdcl.test").warning("look")
            assert stream.getvalue() == "\r\033[Kbusy\r\033[Klook\n"
            live.refresh()
        assert stream.getvalue().endswith("busy\r\033[K")
        logging.getLogger("stdcl.test").warning("after")
        assert stream.getvalue().endswith("\r\033[Kafter\n")
        live.refresh()
        assert stream.getvalue().endswith("after\n")
    finally:
        logging.getLogger().removeHandler(handler)
