"""The first signal asks, the second ends."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from stdcl.launch.signals import SIGNALS, StopRequest


@pytest.mark.parametrize("number", SIGNALS)
def test_the_first_signal_asks_and_the_second_ends(number: signal.Signals) -> None:
    before = [signal.getsignal(each) for each in SIGNALS]
    stop, said = StopRequest(), []
    with pytest.raises(KeyboardInterrupt), stop.on_signals(said.append):  # noqa: PT012
        os.kill(os.getpid(), number)
        assert stop()
        os.kill(os.getpid(), signal.SIGTERM)
    assert said == [number.name]
    assert [signal.getsignal(each) for each in SIGNALS] == before


def test_at_once() -> None:
    stop, said = StopRequest(), []
    with pytest.raises(KeyboardInterrupt), stop.on_signals(said.append, at_once=True):
        os.kill(os.getpid(), signal.SIGTERM)
    assert said == ["SIGTERM"]
    assert stop()


def test_other_threads_leave_signals_alone() -> None:
    before = [signal.getsignal(each) for each in SIGNALS]
    during = []

    def work() -> None:
        with StopRequest().on_signals(lambda name: None):
            during.extend(signal.getsignal(each) for each in SIGNALS)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert during == before
