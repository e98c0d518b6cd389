"""Synthetic data: on request, or where a configuration asks for them and they are not there yet."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Protocol

from stdcl import specs
from stdcl.config import RunConfig
from stdcl.config.model import SyntheticConfig
from stdcl.config.paths import data_path
from stdcl.data.prepare import ConsoleProgress, Progress, prepare_dataset, raw_folder, silent
from stdcl.data.store import MANIFEST_FILE, read_manifest
from stdcl.errors import UserError, not_written
from stdcl.locks import exclusive


class Synthesise(Protocol):
    """What ``DatasetSpec.synthesise`` leads to: writes a synthetic corpus in the dataset's own raw format."""

    def __call__(self, dataset: str, out: Path, *, sequences: int, seed: int, progress: Progress) -> None:
        """Write raw files to the new folder ``out``.

        Raises:
            UserError: something else is at ``out``, or a number is out of range.
        """


def synthesise(dataset: str, out: Path, sequences: int, seed: int, *, progress: Progress = silent) -> None:
    """Write a synthetic corpus of raw files in ``dataset``'s own format and names.

    Raises:
        UserError: the dataset has no synthetic form, something else is at ``out``, or a number is out of range.
    """
    spec = specs.dataset(dataset)
    if not spec.synthesise:
        known = ", ".join(each.name for each in specs.datasets().values() if each.synthesise)
        raise UserError(f"'{dataset}' has no synthetic corpus; allowed: {known}")
    write: Synthesise = specs.load(spec.synthesise)
    try:
        write(dataset, out, sequences=sequences, seed=seed, progress=progress)
    except OSError as error:
        raise not_written(f"--out {out}", error) from error


def is_unmade(config: RunConfig) -> bool:
    """Return whether a configuration asks for a synthetic corpus that was not made yet."""
    return config.data.synthetic is not None and not (data_path(config.data.path) / MANIFEST_FILE).exists()


def ensure_data(config: RunConfig) -> bool:
    """Make and prepare the synthetic corpus that a configuration asks for, unless its store is there.

    The raw files stay beside the store (``<path>-raw``), to be looked at.

    Returns:
        Whether something was made.
    """
    wanted = config.data.synthetic
    dataset = config.data.dataset
    if wanted is None:
        return False
    out = data_path(config.data.path)
    # One process makes it; the others wait, and find it.
    with exclusive(out.parent / f".{out.name}.make.lock", f"the synthetic corpus {out}", wait=math.inf):
        if (out / MANIFEST_FILE).exists():
            _check_made_by(out, wanted)
            return False
        progress = ConsoleProgress(sys.stderr)
        raw = raw_folder(out)
        if not raw.exists():
            synthesise(dataset, raw, wanted.sequences, wanted.seed, progress=progress)
        prepare_dataset(dataset, out, raw=[raw], progress=progress)
    return True


def _check_made_by(out: Path, wanted: SyntheticConfig) -> None:
    made = read_manifest(out).source.get("made_by") or {}
    found = {key: made.get(key) for key in ("sequences", "seed")}
    if found != wanted.model_dump():
        raise UserError(
            f"{out}: holds a store made with {found}, but data.synthetic asks for {wanted.model_dump()}; "
            "remove it, or give another data.path"
        )
