"""Where a sweep keeps what."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class SweepFolder:
    """``<storage>/<sweep>`` and what lies in it."""

    root: Path

    @property
    def sweep_file(self) -> Path:
        """The sweep as it was last run, overrides included."""
        return self.root / "sweep.yaml"

    @property
    def plan(self) -> Path:
        """Its trials."""
        return self.root / "plan.json"

    @property
    def lock(self) -> Path:
        """Held by the driver."""
        return self.root / "lock"

    @property
    def results(self) -> Path:
        """The store of results, a row an attempt."""
        return self.root / "results"

    @property
    def study(self) -> Path:
        """Optuna's storage."""
        return self.root / "study"

    @property
    def report(self) -> Path:
        """Tables and figures."""
        return self.root / "report"

    @property
    def tune(self) -> Path:
        """Ray's own files, of no meaning for later runs."""
        return self.root / "tune"

    def run(self, key: str) -> Path:
        """The folder of a trial's training."""
        return self.root / "trials" / key
