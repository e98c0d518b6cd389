"""``result.json``: what a complete run came to. A run that has none is not complete."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from stdcl import atomic
from stdcl.errors import UserError
from stdcl.results.row import EpochRow, from_file, to_file

MEASURED = ("device", "processor", "precision", "tf32", "driver", "steady_epoch_seconds")
"""Facts of a result that say what its time and memory were measured on, and its last digits came from."""


@dataclass(frozen=True)
class RunResult:
    """A complete run.

    Attributes:
        row: the last epoch's numbers.
        fingerprint: of the configuration; empty where the file does not say.
        seed: of the training.
        code_version: of the last attempt.
        code_versions: of all attempts, in their order, each change once; empty where the file does not say.
        data_hash: content hash of the store that was trained on.
        split: of the data.
        workers: ranks of the last attempt.
        sweep: name of the sweep; empty if there is none.
        trial: key of the trial in the sweep, else the folder's name.
        execution: digest of the code that training executes (``version.execution_digest``).
        threads: per worker.
        device: ``cpu`` or ``cuda``.
        processor: its model, of rank 0.
        precision: of the encoder's products (``training.precision``).
        tf32: where a GPU rounds float32 products to TF32 (``training.tf32``), ``none`` on cards without it; empty on
            CPUs.
        driver: version of the NVIDIA driver; empty on CPUs, and where the system does not say.
        steady_epoch_seconds: of training without evaluation, the median of the last attempt's second to fourth epoch;
            None where it had fewer.
        exchange: between the ranks of a sharded bank; empty without one.
        init_from: the run folder that training started from; empty for random weights.
        taken_from: the run folder, below the storage folder, that this result was copied from; empty if it was trained.
        packages: versions of Python and packages, of the last attempt (``version.package_versions``).
    """

    row: EpochRow
    fingerprint: str = ""
    seed: int | None = None
    code_version: str = ""
    data_hash: str = ""
    split: str = ""
    workers: int | None = None
    sweep: str = ""
    trial: str = ""
    execution: str = ""
    threads: int | None = None
    device: str = ""
    processor: str = ""
    precision: str = ""
    tf32: str = ""
    driver: str = ""
    exchange: str = ""
    init_from: str = ""
    taken_from: str = ""
    code_versions: tuple[str, ...] = ()
    packages: str = ""
    steady_epoch_seconds: float | None = None

    def measured(self) -> dict[str, Any]:
        """Return what a row of the results store keeps of the machine and its speed; what is not known is left out."""
        values = {name: getattr(self, name) for name in MEASURED}
        return {name: value for name, value in values.items() if value not in ("", None)}


_FACTS = [name for name in RunResult.__dataclass_fields__ if name != "row"]


def write_result(path: Path, result: RunResult) -> None:
    """Write a complete run's result, atomically."""
    atomic.write_json(path, {"status": "finished", **asdict(result), "row": to_file(result.row)})


def read_result(path: Path) -> RunResult | None:
    """Return a run's result, None if it has none.

    Raises:
        UserError: the file is there, and is damaged or cannot be read.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        row = from_file(content["row"])
        for name in ("accuracy", "num_test"):
            if not isinstance(content["row"][name], int | float):
                raise TypeError(f"'{name}' is not a number")
        facts = {name: content[name] for name in _FACTS if content.get(name) is not None}
        return RunResult(row, **{**facts, "code_versions": tuple(facts.get("code_versions", ()))})
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except KeyError as error:
        raise UserError(f"{path}: not the result of a run (it lacks {error}); remove it and run again") from None
    except (ValueError, TypeError) as error:
        raise UserError(f"{path}: not the result of a run ({error}); remove it and run again") from None
