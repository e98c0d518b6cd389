"""A synthetic corpus in NTU RGB+D's own raw format: real file names, real text, and the defects of real
recordings.

Bodies of 25 joints perform actions that are told apart by which joints move, how far, how fast and in which
order. Some are easy to tell from the rest, some differ in tempo alone, and some are another action played
backwards. Performers differ in size, tempo and vigour; a setup decides distance and height of the cameras,
a camera the side it looks from.

A tenth or so of the clips each has frames without anybody, a body that is lost for a while, a body whose
tracking id changes halfway, and a spurious further body (a short-lived one, or a piece of furniture). Half
of the files have CRLF line ends; small numbers come in E-notation.

The corpus is a pure function of (dataset, sequences, seed): the number of processes does not matter.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from math import gcd
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stdcl import atomic, specs
from stdcl.data.ntu.classes import TWO_PERSONS
from stdcl.data.ntu.raw import NUM_JOINTS, ClipName, missing_ids
from stdcl.data.pool import ordered_map, worker_count
from stdcl.data.prepare import CORPUS_FILE, Progress, silent
from stdcl.data.protocols import official_rules
from stdcl.errors import UserError
from stdcl.seeding import generator

FloatArray = NDArray[np.float64]

GENERATOR_VERSION = 1
"""Raised when the same seed would give other files."""

FRAMES = (40, 120)
"""Shortest and longest clip by default, frames."""

_PIECE_FILES = 64
_CLASS_SEED = 0  # actions are the same in every corpus, whatever its seed

# Offsets from the parent (metres; x to the body's left, y up, z forward), joints in NTU's order.
_PARENT = (0, 0, 20, 2, 20, 4, 5, 6, 20, 8, 9, 10, 0, 12, 13, 14, 0, 16, 17, 18, 1, 7, 7, 11, 11)
_OFFSET = np.array(
    [
        (0.00, 0.00, 0.00), (0.00, 0.31, 0.00), (0.00, 0.08, 0.00), (0.00, 0.16, 0.02), (0.17, -0.04, 0.00),
        (0.04, -0.27, 0.00), (0.02, -0.25, 0.02), (0.01, -0.08, 0.01), (-0.17, -0.04, 0.00), (-0.04, -0.27,
        0.00), (-0.02, -0.25, 0.02), (-0.01, -0.08, 0.01), (0.08, -0.04, 0.00), (0.02, -0.40, 0.02), (0.01,
        -0.40, -0.02), (0.01, -0.07, 0.12), (-0.08, -0.04, 0.00), (-0.02, -0.40, 0.02), (-0.01, -0.40,
        -0.02), (-0.01, -0.07, 0.12), (0.00, 0.22, 0.00), (0.00, -0.08, 0.01), (0.03, -0.03, 0.03), (0.00,
        -0.08, 0.01), (-0.03, -0.03, 0.03),
    ]
)  # fmt: skip
_ORDER = (0, 1, 20, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 21, 22, 23, 24)
_TURNING = (0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 16, 17)
"""Joints that can turn; the rest follow their parent."""

# What an action may move: (joint, axis, sign), in groups of which an action picks some.
_DEGREES = (
    ((4, 0, -1), (4, 2, 1), (5, 0, -1)),
    ((8, 0, -1), (8, 2, -1), (9, 0, -1)),
    ((4, 0, -1), (8, 0, -1), (5, 0, -1), (9, 0, -1)),
    ((4, 2, 1), (8, 2, -1)),
    ((12, 0, -1), (13, 0, 1)),
    ((16, 0, -1), (17, 0, 1)),
    ((1, 0, 1), (2, 0, 1)),
    ((1, 1, 1), (2, 1, 1)),
    ((6, 0, 1), (6, 2, 1), (10, 0, 1), (10, 2, 1)),
    ((0, 1, 1),),
)


class _Action(NamedTuple):
    """Angles over the clip: rest + sum over terms; each term turns one degree of freedom."""

    terms: tuple[tuple[int, int, float, float, float], ...]  # joint, axis, amplitude, cycles, phase
    reach: bool  # rises once and stays, instead of swinging
    backwards: bool
    sink: float  # metres the hips go down
    partner_delay: float  # share of the clip by which a second person follows


@cache
def _action(number: int) -> _Action:
    """The movement of action ``number`` (from 1): of four neighbours one stands alone, two share all but
    tempo or direction."""
    base = (number - 1) // 2 * 2 + 1
    g = generator(_CLASS_SEED, "ntu-synthetic-action", base)
    groups = g.choice(len(_DEGREES), size=int(g.integers(1, 4)), replace=False)
    cycles = float(g.uniform(0.8, 2.2))
    terms = tuple(
        (joint, axis, sign * float(g.uniform(0.5, 1.6)), cycles, float(g.uniform(0, 2 * np.pi)))
        for group in groups
        for joint, axis, sign in _DEGREES[group]
    )
    reach = bool(g.random() < 0.5)
    sink = float(g.uniform(0.1, 0.4)) if g.random() < 0.2 else 0.0
    delay = float(g.uniform(0.0, 0.3))
    variant = number != base
    if variant and not reach:
        terms = tuple((joint, axis, size, 1.6 * turns, phase) for joint, axis, size, turns, phase in terms)
    return _Action(terms, reach, variant and reach, sink, delay)


class _Performer(NamedTuple):
    size: float
    tempo: float
    vigour: float
    stance: FloatArray


@cache
def _performer(seed: int, number: int) -> _Performer:
    g = generator(seed, "ntu-synthetic-performer", number)
    return _Performer(
        float(g.uniform(0.85, 1.15)),
        float(g.uniform(0.8, 1.25)),
        float(g.uniform(0.7, 1.2)),
        g.normal(0.0, 0.08, (NUM_JOINTS, 3)),
    )


def _rotations(angles: FloatArray) -> FloatArray:
    """Return (..., 3, 3) rotations Rz Ry Rx from (..., 3) angles, radians."""
    c, s = np.cos(angles), np.sin(angles)
    (cx, cy, cz), (sx, sy, sz) = np.moveaxis(c, -1, 0), np.moveaxis(s, -1, 0)
    rows = [
        (cz * cy, cz * sy * sx - sz * cx, cz * sy * cx + sz * sx),
        (sz * cy, sz * sy * sx + cz * cx, sz * sy * cx - cz * sx),
        (-sy, cy * sx, cy * cx),
    ]
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def body_motion(action: int, performer: int, frames: int, seed: int, rng: np.random.Generator) -> FloatArray:
    """Return one body's joints (frames, 25, 3), metres, standing at the origin and facing +z.

    Args:
        action: number from 1.
        performer: number from 1.
        frames: length.
        seed: of the corpus: what its performers are like.
        rng: what differs between two recordings of the same.
    """
    plan = _action(action)
    who = _performer(seed, performer)
    time_ = np.linspace(0.0, 1.0, frames)
    if plan.backwards:
        time_ = time_[::-1]
    time_ = time_ + rng.uniform(-0.12, 0.12)
    angles = np.tile(who.stance, (frames, 1, 1)) + 0.03 * np.sin(
        2 * np.pi * (time_[:, None, None] * 1.5 + rng.random((1, NUM_JOINTS, 3)))
    )
    rise = np.clip((time_ * who.tempo - 0.15) / 0.5, 0.0, 1.0)
    rise = rise * rise * (3 - 2 * rise)
    for joint, axis, size, cycles, phase in plan.terms:
        size = size * who.vigour * rng.uniform(0.75, 1.25)
        if plan.reach:
            angles[:, joint, axis] += size * rise
        else:
            angles[:, joint, axis] += size * 0.5 * (1 + np.sin(2 * np.pi * cycles * who.tempo * time_ + phase))
    turned = dict(zip(_TURNING, np.moveaxis(_rotations(angles[:, _TURNING]), 1, 0), strict=True))
    world: dict[int, FloatArray] = {}
    joints = np.empty((frames, NUM_JOINTS, 3))
    for joint in _ORDER:
        parent = _PARENT[joint]
        if joint == 0:
            joints[:, 0] = 0.0
            world[0] = turned[0]
            continue
        joints[:, joint] = joints[:, parent] + world[parent] @ (_OFFSET[joint] * who.size)
        world[joint] = world[parent] @ turned[joint] if joint in turned else world[parent]
    joints[..., 1] -= plan.sink * (rise if plan.reach else 0.5 * (1 - np.cos(2 * np.pi * time_)))[:, None]
    return joints


def _to_camera(joints: FloatArray, name: ClipName, turn: float, place: FloatArray) -> FloatArray:
    """Move a body to its place in front of a camera: (F, 25, 3) in camera space, y up, z away from the
    camera."""
    side = {1: 0.0, 2: -np.pi / 4, 3: np.pi / 4}[name.camera]
    distance = 2.8 + 0.35 * (name.setup % 4)
    height = 0.3 * (name.setup % 3) - 0.2
    rotation = _rotations(np.array([0.0, side + np.pi, 0.0]))
    facing = _rotations(np.array([0.0, turn, 0.0]))
    moved = (joints @ facing.T + place) @ rotation.T
    return np.asarray(moved + np.array([0.0, -height, distance]))


Body = tuple[int, FloatArray]


def _bodies(name: ClipName, frames: tuple[int, int], seed: int, rng: np.random.Generator) -> list[list[Body]]:
    """Return, a frame, its bodies: (tracking id, (25, 3) joints)."""
    count = int(rng.integers(frames[0], frames[1], endpoint=True))
    track = 72057594037927936 + int(rng.integers(1, 2**40))
    turn = float(rng.normal(0.0, 0.15))
    people = []
    if name.action in TWO_PERSONS:
        partner = name.performer % 40 + 1 if name.action <= 60 else (name.performer - 40) % 66 + 41
        gap = float(rng.uniform(0.35, 0.6))
        lag = int(_action(name.action).partner_delay * count)
        first = body_motion(name.action, name.performer, count, seed, rng)
        second = body_motion(name.action, partner, count + lag, seed, rng)[:count]
        people.append(_to_camera(first, name, turn + np.pi / 2, np.array([-gap, 0.0, 0.0])))
        people.append(_to_camera(second, name, turn - np.pi / 2, np.array([gap, 0.0, 0.0])))
    else:
        first = body_motion(name.action, name.performer, count, seed, rng)
        people.append(_to_camera(first, name, turn, rng.normal(0.0, 0.1, 3) * [1.0, 0.0, 1.0]))
    out: list[list[Body]] = [[] for _ in range(count)]
    for number, joints in enumerate(people):
        joints = joints + rng.normal(0.0, 0.01, joints.shape)
        body = track + number
        absent = range(0)
        if rng.random() < 0.08:
            start = int(rng.integers(count // 4, count // 2))
            absent = range(start, start + int(rng.integers(2, 8)))
        switch = int(rng.integers(count // 3, 2 * count // 3)) if rng.random() < 0.08 else count
        for frame in range(count):
            if frame not in absent:
                out[frame].append((body + (100 if frame >= switch else 0), joints[frame]))
    if rng.random() < 0.1:
        _add_spurious(out, track + 500, people[0], rng)
    if rng.random() < 0.1:
        for frame in rng.choice(count, size=int(rng.integers(1, 4)), replace=False):
            out[frame].clear()
    return out


def _add_spurious(out: list[list[Body]], body: int, person: FloatArray, rng: np.random.Generator) -> None:
    """Add a body that is none: one that lasts at most 11 frames, or one that is much wider than tall."""
    count = len(out)
    if rng.random() < 0.5:
        length = int(rng.integers(3, 12))
        shape = person[0] + np.array([0.8, 0.0, 0.3])
    else:
        length = int(rng.integers(count // 3, count))
        shape = person[0] * np.array([3.0, 0.15, 1.0])
    start = int(rng.integers(0, max(count - length, 0), endpoint=True))
    for frame in range(start, min(start + length, count)):
        out[frame].append((body, shape + rng.normal(0.0, 0.004, shape.shape)))


_ORIENTATION = generator(_CLASS_SEED, "ntu-synthetic-orientation").uniform(-1.0, 1.0, (NUM_JOINTS, 4))
_JOINT_LINES = "\n".join(
    "%.7g %.6f %.6f %d.25 %d.5 %d.125 %d.75 " + " ".join(f"{v:.7g}" for v in row) + " 2" for row in _ORIENTATION
)


def _text(clip: list[list[Body]]) -> str:
    lines = [str(len(clip))]
    for bodies in clip:
        lines.append(str(len(bodies)))
        for body, joints in bodies:
            x, y, z = joints.T
            sideways, upwards = x / z, y / z
            row = np.stack(
                [
                    x, y, z, 256.5 + 365.6 * sideways, 212.0 - 365.6 * upwards,
                    960.0 + 1060.7 * sideways, 540.0 - 1060.7 * upwards,
                ],
                axis=1,
            )  # fmt: skip
            lines.append(f"{body} 0 1 1 1 1 0 {0.1 * x[0]:.7g} {-0.1 * z[0]:.7g} 2")
            lines.append(str(NUM_JOINTS))
            lines.append(_JOINT_LINES % tuple(row.ravel().tolist()))
    return "\n".join(lines) + "\n"


class _Task(NamedTuple):
    names: tuple[ClipName, ...]
    folder: str
    seed: int
    frames: tuple[int, int]


def _write_piece(task: _Task) -> int:
    folder = Path(task.folder)
    size = 0
    for name in task.names:
        key = (name.setup, name.camera, name.performer, name.replication, name.action)
        rng = generator(task.seed, "ntu-synthetic-clip", *key)
        text = _text(_bodies(name, task.frames, task.seed, rng))
        if rng.random() < 0.5:
            text = text.replace("\n", "\r\n")
        size += (folder / f"{name}.skeleton").write_bytes(text.encode("ascii"))
    return size


def _names_of_class(dataset: str, action: int, seed: int) -> Iterator[ClipName]:
    """All names an action can have, so ordered that every few in a row cover both parts of every protocol."""
    second_half = action > 60
    performers = range(41, 107) if second_half else range(1, 41)
    setups = range(18, 33) if second_half else range(1, 18)
    train = official_rules(dataset)["x-sub"].train
    rng = generator(seed, "ntu-synthetic-names", action)

    def cell(index: int) -> Iterator[ClipName]:
        part = [p for p in performers if (p in train) == (index % 2 == 0)]
        parity = [s for s in setups if s % 2 == (index // 2 + action) % 2]
        camera = (index + action) % 3 + 1
        grid = len(part) * len(parity) * 2
        start = int(rng.integers(grid))
        step = next(k for k in range(int(0.382 * grid), grid) if gcd(k, grid) == 1)
        for i in range(grid):
            who, rest = divmod((start + i * step) % grid, 2 * len(parity))
            yield ClipName(parity[rest // 2], camera, part[who], rest % 2 + 1, action)

    cells = [cell(index) for index in range(12)]
    missing = missing_ids(dataset)
    while cells:
        for source in list(cells):
            name = next(source, None)
            if name is None:
                cells.remove(source)
            elif str(name) not in missing:
                yield name


def clip_names(dataset: str, sequences: int, seed: int) -> list[ClipName]:
    """Return the names of a corpus, sorted: classes as equal as can be, performers, setups and cameras mixed.

    Raises:
        UserError: more sequences than there are names.
    """
    classes = len(specs.dataset(dataset).classes)
    names: list[ClipName] = []
    for action in range(1, classes + 1):
        want = sequences // classes + (action <= sequences % classes)
        if not want:
            break
        have = [name for name, _ in zip(_names_of_class(dataset, action, seed), range(want), strict=False)]
        if len(have) < want:
            raise UserError(
                f"--sequences {sequences}: {dataset} has names for at most {len(have)} sequences of action {action},"
                f" about {len(have) * classes:,} in all"
            )
        names += have
    return sorted(names)


def _description(dataset: str, sequences: int, seed: int, frames: tuple[int, int]) -> dict[str, Any]:
    return {
        "dataset": dataset,
        "made_by": {
            "command": f"stdcl data synth {dataset} --sequences {sequences} --seed {seed}",
            "sequences": sequences,
            "seed": seed,
            "frames": list(frames),
            "generator": GENERATOR_VERSION,
        },
    }


@dataclass(frozen=True)
class SynthReport:
    """What was written: folder, files, bytes, seconds."""

    out: Path
    dataset: str
    files: int
    size: int
    seconds: float

    def render(self) -> str:
        """Return the summary as text."""
        return (
            f"{self.files:,} synthetic {self.dataset} files ({self.size / 2**20:,.0f} MiB) in {self.out}, "
            f"{self.seconds:.1f} s ({self.files / max(self.seconds, 1e-9):,.0f} files/s)"
        )


def synth_ntu(
    dataset: str,
    out: Path,
    *,
    sequences: int,
    seed: int = 0,
    frames: tuple[int, int] = FRAMES,
    workers: int | None = None,
    progress: Progress = silent,
) -> SynthReport:
    """Write a synthetic corpus of raw NTU RGB+D files.

    Args:
        dataset: which of the two: its classes, setups, performers and class balance.
        out: folder to make; it must not exist, or be empty.
        sequences: files.
        seed: performers and recordings; the actions are the same for every seed.
        frames: shortest and longest clip.
        workers: processes; None: one per core.
        progress: told how many files are written.

    Raises:
        UserError: ``out`` has something in it, or a number is out of range.
    """
    begin = time.perf_counter()
    workers = worker_count(workers)
    if sequences < 1:
        raise UserError(f"--sequences {sequences}: at least 1 is needed")
    if not 12 <= frames[0] <= frames[1]:
        raise UserError(f"frames {frames[0]} to {frames[1]}: at least 12, and the shortest first")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"--out {out}: there is something here already; name a new folder")
    names = clip_names(dataset, sequences, seed)
    with atomic.staging_dir(out) as staged:
        tasks = (
            _Task(tuple(names[start : start + _PIECE_FILES]), str(staged), seed, frames)
            for start in range(0, len(names), _PIECE_FILES)
        )
        size = 0
        for piece, written in enumerate(ordered_map(_write_piece, tasks, min(workers, -(-len(names) // _PIECE_FILES)))):
            size += written
            progress("writing", min((piece + 1) * _PIECE_FILES, len(names)), len(names))
        atomic.write_json(staged / CORPUS_FILE, _description(dataset, sequences, seed, frames))
    return SynthReport(out, dataset, len(names), size, time.perf_counter() - begin)


def synthesise(dataset: str, out: Path, *, sequences: int, seed: int, progress: Progress) -> None:
    """Write a corpus, see ``stdcl.data.synthetic.Synthesise``."""
    synth_ntu(dataset, out, sequences=sequences, seed=seed, progress=progress)
