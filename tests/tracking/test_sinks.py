from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from stdcl.tracking.sink import Sinks


class _Recorder:
    def __init__(self) -> None:
        self.calls: list[str] = []

    def start(self, config: Mapping[str, Any], info: Mapping[str, Any]) -> None:
        self.calls.append("start")

    def log_epoch(self, row: Mapping[str, float | int], epoch: int) -> None:
        self.calls.append(f"epoch {epoch}")

    def finish(self, summary: Mapping[str, Any], status: str) -> None:
        self.calls.append(status)

    def take_notices(self) -> list[str]:
        return []


class _Broken(_Recorder):
    def log_epoch(self, row: Mapping[str, float | int], epoch: int) -> None:
        super().log_epoch(row, epoch)
        raise ConnectionError("the line is dead")


def test_a_failing_sink_is_reported_once_and_stops_nothing() -> None:
    broken, well = _Broken(), _Recorder()
    sinks = Sinks([broken, well])
    sinks.start({}, {})
    for epoch in range(3):
        sinks.log_epoch({"loss": 1.0}, epoch)
    sinks.finish({}, "finished")
    expected = ["start", "epoch 0", "epoch 1", "epoch 2", "finished"]
    assert well.calls == expected
    assert broken.calls == expected
    (told,) = sinks.take_notices()
    assert "_Broken" in told
    assert "the line is dead" in told
    assert sinks.take_notices() == []
    assert sinks.failures == {"_Broken": 3}


def test_the_training_may_be_interrupted_through_a_sink() -> None:
    class Interrupted(_Recorder):
        def log_epoch(self, row: Mapping[str, float | int], epoch: int) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Sinks([Interrupted()]).log_epoch({}, 0)
