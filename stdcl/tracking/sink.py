"""The contract of a sink, and several sinks as one.

Only rank 0 holds sinks. The order of calls is ``start``, any number of ``log_epoch`` with growing epochs, ``finish``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from stdcl.results.state import Ending


class Sink(Protocol):
    """Something that receives a trial's numbers.

    A sink bounds its own waiting and need not guard against its own errors: ``Sinks`` does. Since a call after a
    failed one is possible, also after a failed ``start``, each method must be harmless then.
    """

    def start(self, config: Mapping[str, Any], info: Mapping[str, Any]) -> None:
        """Begin an attempt.

        Args:
            config: the resolved configuration, nested, of plain values; it holds no secret.
            info: facts about the attempt that are not configuration (sweep, trial key, seed, fingerprint, code
                version, data hash, ...). ``epochs_before`` (int, default 0) says how many epochs earlier attempts have
                completed; what they logged of later ones is void.
        """
        ...

    def log_epoch(self, row: Mapping[str, Any], epoch: int) -> None:
        """Record the numbers of one complete epoch (from 1)."""
        ...

    def finish(self, summary: Mapping[str, Any], status: Ending) -> None:
        """End the attempt, as ``status`` says (``results.state``)."""
        ...

    def take_notices(self) -> list[str]:
        """Return what the user should be told since the last call: a sentence each, in any process's log unseen."""
        ...


class Sinks:
    """Several sinks as one: a sink that fails is reported once and never stops the training or the other sinks."""

    def __init__(self, sinks: Sequence[Sink]) -> None:
        self._sinks = tuple(sinks)
        self._failures: dict[int, int] = {}
        self._notices: list[str] = []

    @property
    def failures(self) -> dict[str, int]:
        """Failed calls by sink class, of the sinks that failed."""
        return {type(self._sinks[index]).__name__: count for index, count in self._failures.items()}

    def start(self, config: Mapping[str, Any], info: Mapping[str, Any]) -> None:
        """See ``Sink.start``."""
        self._each("start", lambda sink: sink.start(config, info))

    def log_epoch(self, row: Mapping[str, Any], epoch: int) -> None:
        """See ``Sink.log_epoch``."""
        self._each(f"epoch {epoch}", lambda sink: sink.log_epoch(row, epoch))

    def finish(self, summary: Mapping[str, Any], status: Ending) -> None:
        """See ``Sink.finish``."""
        self._each("finish", lambda sink: sink.finish(summary, status))

    def take_notices(self) -> list[str]:
        """Return every sink's notices and this object's own."""
        own, self._notices = self._notices, []
        return [*own, *(text for sink in self._sinks for text in sink.take_notices())]

    def _each(self, moment: str, call: Callable[[Sink], None]) -> None:
        for index, sink in enumerate(self._sinks):
            try:
                call(sink)
            except Exception as error:
                if index not in self._failures:
                    self._notices.append(
                        f"{type(sink).__name__} failed at {moment} ({type(error).__name__}: {error}); training "
                        "continues, and further failures of it are not reported"
                    )
                self._failures[index] = self._failures.get(index, 0) + 1
