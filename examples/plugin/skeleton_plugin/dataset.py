"""Stick figures: one CSV file per clip, a frame per line, x, y, z of seven joints in metres.

A file's name is ``<class>_s<subject>_<number>.csv``, for example ``wave_s03_0007.csv``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skeleton_plugin import STICK, STICK_CLASSES
from stdcl import atomic
from stdcl.data.foreign import write_store
from stdcl.data.prepare import CORPUS_FILE, BadFile, BadFilesError, Prepared, Progress
from stdcl.data.protocols import official_rules
from stdcl.data.store import Clip, Manifest, Record
from stdcl.errors import UserError
from stdcl.seeding import generator

NAME = re.compile(rf"({'|'.join(STICK_CLASSES)})_s(\d+)_(\d+)")
STANDING = np.array([(0, 1, 0), (0, 1.6, 0), (-0.5, 1.4, 0), (0.5, 1.4, 0), (0, 1.4, 0), (-0.2, 0, 0), (0.2, 0, 0)])


def prepare(dataset: str, out: Path, *, raw: Sequence[Path] = (), force: bool, progress: Progress) -> Prepared:
    """Make the store: ``stdcl data prepare sticks --raw DIR``; see ``stdcl.data.prepare.Prepare``."""
    if len(raw) != 1 or not raw[0].is_dir():
        raise UserError(f"stdcl data prepare {dataset}: give --raw DIR once, the folder of the .csv files")
    files = sorted(raw[0].glob("*.csv"))
    bad = [BadFile(file.name, "name: expected CLASS_sNN_NNNN.csv") for file in files if not NAME.fullmatch(file.stem)]
    if bad or not files:
        raise BadFilesError(raw[0], bad or [BadFile("*.csv", "missing: there are none")])
    corpus = raw[0] / CORPUS_FILE
    source: dict[str, Any] = {"format": "sticks", "files": len(files)}
    if corpus.exists():
        source["made_by"] = json.loads(corpus.read_text())

    def records() -> Iterator[Record]:
        for file in files:
            found = NAME.fullmatch(file.stem)
            assert found is not None
            yield Record(file.stem, STICK_CLASSES.index(found[1]), read(file), subject=int(found[2]))

    return write_store(
        out,
        records,
        dataset=dataset,
        skeleton=STICK,
        classes=STICK_CLASSES,
        max_persons=1,
        protocols=official_rules(dataset),
        source=source,
        notes=lambda: (),
        force=force,
        progress=progress,
        total=len(files),
        centred=False,
    )


def read(file: Path) -> NDArray[np.float32]:
    """Return (F, 1, 7, 3) of a file."""
    try:
        values = np.loadtxt(file, delimiter=",", dtype=np.float32, ndmin=2)
        return values.reshape(len(values), 1, STICK.num_joints, 3)
    except (OSError, ValueError) as error:
        raise UserError(f"{file}: {error}; a frame per line is needed, with {3 * STICK.num_joints} numbers") from None


def read_clips(path: Path, like: Manifest) -> Iterator[Clip]:
    """Read a clip for ``stdcl predict``."""
    yield Clip(path.stem, read(path), STICK.name)


def synthesise(dataset: str, out: Path, *, sequences: int, seed: int, progress: Progress) -> None:
    """Write a synthetic corpus: ``stdcl data synth sticks``; see ``stdcl.data.synthetic.Synthesise``."""
    if out.exists():
        raise UserError(f"--out {out}: something is there; give a new folder")
    with atomic.staging_dir(out) as folder:
        for number in range(sequences):
            label, subject = number % len(STICK_CLASSES), number // len(STICK_CLASSES) % 5 + 1
            values = _move(label, generator(seed, "sticks", number))
            name = f"{STICK_CLASSES[label]}_s{subject:02d}_{number:04d}.csv"
            np.savetxt(folder / name, values.reshape(len(values), -1), fmt="%.4f", delimiter=",")
            progress("writing", number + 1, sequences)
        (folder / CORPUS_FILE).write_text(json.dumps({"sequences": sequences, "seed": seed}))


def _move(label: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return (F, 7, 3): a hand waves, the body bows, or it jumps."""
    phase = np.sin(np.linspace(0, rng.uniform(2, 4) * np.pi, int(rng.integers(20, 40))) + rng.uniform(0, 2 * np.pi))
    values = np.repeat(STANDING[None], len(phase), 0)
    if label == 0:
        values[:, 3, 1] += 0.5 + 0.3 * phase
    elif label == 1:
        values[:, 1:5, 2] += 0.5 + 0.4 * phase[:, None]
    else:
        values[:, :, 1] += 0.3 * np.maximum(phase, 0)[:, None]
    return values + rng.normal(0, 0.02, values.shape)
