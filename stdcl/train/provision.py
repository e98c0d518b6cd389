"""Synthetic data, made where a configuration asks for them and they are not there yet."""

from __future__ import annotations

import fcntl
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stdcl.config import RunConfig
from stdcl.config.paths import data_path
from stdcl.data.store import MANIFEST_FILE
from stdcl.errors import UserError


def synthesise(dataset: str, out: Path, sequences: int, seed: int) -> int:
    """Write a synthetic corpus of raw files in ``dataset``'s own format; return how many files.

    Raises:
        UserError: ``out`` is not empty, or the numbers are not possible.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"--out {out}: not an empty folder; a synthetic corpus is not mixed with other files")
    if dataset == "nw-ucla":
        from stdcl.data.synthetic_ucla import synth_nw_ucla

        return len(list(synth_nw_ucla(out, sequences=sequences, seed=seed)))
    from stdcl.data.synthetic_ntu import synth_ntu

    return synth_ntu(dataset, out, sequences=sequences, seed=seed).files


def prepare_raw(dataset: str, raw: Path, out: Path) -> None:
    """Prepare raw files as ``stdcl data prepare`` would."""
    if dataset == "nw-ucla":
        from stdcl.data.prepare import prepare_nw_ucla

        prepare_nw_ucla(raw, out)
    else:
        from stdcl.data.prepare_ntu import prepare_ntu

        prepare_ntu(dataset, [raw], out)  # type: ignore[arg-type]


def ensure_data(config: RunConfig) -> bool:
    """Make and prepare the synthetic corpus that a configuration asks for, unless its store is there.

    Returns:
        Whether something was made.

    Raises:
        UserError: the store that is there was made otherwise.
    """
    wanted = config.data.synthetic
    if wanted is None:
        return False
    out = data_path(config.data.path)
    with _locked(out):
        if (out / MANIFEST_FILE).exists():
            return False
        raw = Path(tempfile.mkdtemp(prefix=f".{out.name}.raw.", dir=out.parent))
        try:
            synthesise(config.data.dataset, raw, wanted.sequences, wanted.seed)
            prepare_raw(config.data.dataset, raw, out)
        finally:
            shutil.rmtree(raw, ignore_errors=True)
    return True


@contextmanager
def _locked(out: Path) -> Iterator[None]:
    """Let one process at a time make the store; the others find it."""
    out.parent.mkdir(parents=True, exist_ok=True)
    lock = out.parent / f".{out.name}.make.lock"
    with lock.open("a") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield
