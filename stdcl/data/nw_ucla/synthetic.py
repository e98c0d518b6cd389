"""A synthetic corpus in NW-UCLA's own raw format: a body of 20 joints that performs ten actions before three cameras.

It serves quick starts, tests and scale; it says nothing about accuracy on people. A performance (action, subject,
episode) is simulated once and seen by all three cameras, as in the real recordings. What tells the actions apart is how
hands, trunk and legs move together in time. What hides it: subjects differ in proportions, posture, tempo and
handedness; performances in amplitude, heading, start and end; some are sketchy or hold a distracting gesture; two pairs
of actions (sit down and stand up, donning and doffing) pass through the same poses in opposite order; and the cameras
see everything from their own side with noise, worse on the far side of the body.

Each file is a function of (seed, action, subject, episode, camera) alone: a larger corpus contains the smaller one (up
to 30,000 files, from where on there are more subjects).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stdcl import atomic
from stdcl.data.nw_ucla import CLASSES
from stdcl.data.nw_ucla.prepare import prepare_nw_ucla
from stdcl.data.nw_ucla.raw import VIEWS, Name, file_stem
from stdcl.data.prepare import CORPUS_FILE, Prepared, Progress, raw_folder, silent
from stdcl.errors import UserError
from stdcl.seeding import generator

Array = NDArray[np.float64]

#: Raised when the same seed would give other files.
GENERATOR_VERSION = 1
_SUBJECTS = 10
_MOST_SUBJECTS = 99
_EPISODES = 100
_PER_SUBJECT = len(CLASSES) * len(VIEWS)
#: Azimuth of the three cameras around the scene, radians.
_AZIMUTH = np.deg2rad([5.0, 50.0, -45.0])

# Joint numbers (Kinect v1).
_HIP, _SPINE, _NECK, _HEAD = 0, 1, 2, 3
_ARMS = ((4, 5, 6, 7), (8, 9, 10, 11))
_LEGS = ((12, 13, 14, 15), (16, 17, 18, 19))
#: How noisy each joint is, relative to the trunk: hands and feet are tracked worst.
_NOISE = np.array([1, 1, 1, 1, 1, 1.3, 1.8, 2.2, 1, 1.3, 1.8, 2.2, 1, 1.3, 1.6, 2, 1, 1.3, 1.6, 2.0])


@dataclass(frozen=True)
class _Subject:
    """A person's build and manner."""

    trunk: float
    head: float
    shoulder: float
    upper_arm: float
    forearm: float
    hip: float
    thigh: float
    shin: float
    stoop: float
    tempo: float
    vigour: float
    elbows_out: float
    right_handed: bool


def _subject(seed: int, number: int) -> _Subject:
    rng = generator(seed, "synthetic-subject", number)
    height = rng.uniform(0.86, 1.14)

    def length(base: float) -> float:
        return float(base * height * rng.uniform(0.92, 1.08))

    return _Subject(
        trunk=length(0.40),
        head=length(0.20),
        shoulder=length(0.18),
        upper_arm=length(0.27),
        forearm=length(0.24),
        hip=length(0.09),
        thigh=length(0.40),
        shin=length(0.39),
        stoop=float(rng.normal(0.0, 0.07)),
        tempo=float(rng.uniform(0.75, 1.35)),
        vigour=float(rng.uniform(0.8, 1.15)),
        elbows_out=float(rng.uniform(0.05, 0.3)),
        right_handed=bool(rng.random() < 0.75),
    )


class _Motion:
    """Control curves of a performance over T frames, in the body's own terms.

    Angles in radians; ``drop`` and ``back`` in leg lengths; hands relative to their shoulders in arm lengths as
    (outward, up, forward); ``path`` in metres.
    """

    def __init__(self, phase: Array) -> None:
        frames = len(phase)
        self.phase = phase
        self.lean = np.zeros(frames)
        self.twist = np.zeros(frames)
        self.nod = np.zeros(frames)
        self.drop = np.zeros(frames)
        self.back = np.zeros(frames)
        self.turn = np.zeros(frames)
        self.path = np.zeros(frames)
        self.stride = np.zeros(frames)
        self.step = np.zeros(frames)
        self.hands = np.tile(np.array([0.12, -0.93, 0.12]), (2, frames, 1))

    def reach(self, side: int, weight: Array, target: tuple[float, float, float]) -> None:
        """Move a hand towards a target by a weight in [0, 1] a frame."""
        self.hands[side] += weight[:, None] * (np.array(target) - self.hands[side])


def _rise(phase: Array, start: float, end: float) -> Array:
    """Return a smooth step from 0 at ``start`` to 1 at ``end``."""
    x = np.clip((phase - start) / (end - start), 0.0, 1.0)
    return np.asarray(x * x * (3.0 - 2.0 * x))


def _hump(phase: Array, start: float, top: float, fall: float, end: float) -> Array:
    """Return a smooth hump: 0 until ``start``, 1 from ``top`` to ``fall``, 0 after ``end``."""
    return _rise(phase, start, top) - _rise(phase, fall, end)


def _walk(m: _Motion, rng: np.random.Generator, share: Array, swing: float) -> None:
    """Walk with a stride given frame by frame; the arms swing against the legs."""
    cycles = rng.uniform(1.2, 2.6)
    m.stride = m.stride + share
    m.step = 2 * np.pi * (cycles * m.phase + rng.random())
    m.path = m.path + np.cumsum(share) / len(share) * rng.uniform(0.5, 1.2)
    for side, sign in ((0, -1.0), (1, 1.0)):
        m.hands[side, :, 2] += share * swing * sign * np.sin(m.step)


def _pick_up(m: _Motion, rng: np.random.Generator, side: int, power: float, *, both: bool) -> None:
    down = _hump(m.phase, 0.08, 0.42, 0.55, 0.92)
    knees = rng.uniform(0.15, 0.85)
    m.lean += down * power * (1.25 - 0.55 * knees)
    m.drop += down * power * (0.12 + 0.3 * knees)
    m.back += down * 0.12 * power
    m.nod += down * rng.uniform(0.0, 0.4)
    aim = (rng.uniform(-0.35, 0.05), rng.uniform(-0.85, -0.65), rng.uniform(0.45, 0.7))
    reach = _hump(m.phase, 0.1, 0.4, 0.6, 0.95)
    m.reach(side, reach, aim)
    if both:
        m.reach(1 - side, reach, aim)
    else:
        rest = (rng.uniform(0.1, 0.35), -0.85, rng.uniform(-0.15, 0.3))
        m.reach(1 - side, down, rest)
        m.twist += (0.25 if side == 0 else -0.25) * down


def _pick_up_one(m: _Motion, rng: np.random.Generator, side: int, power: float) -> None:
    _pick_up(m, rng, side, power, both=False)


def _pick_up_two(m: _Motion, rng: np.random.Generator, side: int, power: float) -> None:
    _pick_up(m, rng, side, power, both=True)


def _drop_trash(m: _Motion, rng: np.random.Generator, side: int, power: float) -> None:
    if rng.random() < 0.5:
        _walk(m, rng, 0.6 * _hump(m.phase, -0.2, 0.0, 0.2, 0.4), 0.2)
    out = _hump(m.phase, 0.2, 0.5, 0.62, 0.9)
    m.reach(side, out, (rng.uniform(-0.1, 0.3), -0.5 + 0.25 * power, 0.75))
    m.lean += out * rng.uniform(0.1, 0.35)
    m.nod += out * 0.3
    m.twist += (0.2 if side == 0 else -0.2) * out * power


def _walk_around(m: _Motion, rng: np.random.Generator, side: int, power: float) -> None:
    _walk(m, rng, np.full(len(m.phase), power), rng.uniform(0.1, 0.35))
    m.turn += rng.uniform(-1.4, 1.4) * _rise(m.phase, 0.1, 0.9)


def _sit(m: _Motion, rng: np.random.Generator, power: float, seated: Array) -> None:
    deep = rng.uniform(0.38, 0.5) * (0.6 + 0.4 * power)
    m.drop += deep * seated
    m.back += 0.42 * seated
    between = 4.0 * seated * (1.0 - seated)
    m.lean += between * rng.uniform(0.4, 0.8) * power + seated * rng.uniform(-0.12, 0.12)
    forward = rng.uniform(0.2, 0.6)
    for hand in (0, 1):
        m.reach(hand, seated, (rng.uniform(-0.15, 0.1), -0.68, forward))


def _sit_down(m: _Motion, rng: np.random.Generator, side: int, power: float) -> None:
    _sit(m, rng, power, _rise(m.phase, 0.2, 0.75))


def _stand_up(m: _Motion, rng: np.random.Generator, side: int, power: float) -> None:
    _sit(m, rng, power, 1.0 - _rise(m.phase, 0.25, 0.8))


def _coat(m: _Motion, rng: np.random.Generator, side: int, power: float, at: Array) -> None:
    """Put a coat on as ``at`` runs from 0 to 1: a sleeve, over the shoulder, the other sleeve, close it."""
    held, other = side, 1 - side
    first, second = _hump(at, 0.0, 0.2, 0.3, 0.5), _hump(at, 0.35, 0.55, 0.65, 0.85)
    close = _hump(at, 0.7, 0.85, 1, 1.2)
    height = rng.uniform(0.0, 0.45) * power
    m.reach(held, first, (0.75, -0.25 + height, 0.15))
    m.reach(other, first, (-0.5, -0.1 + height, 0.45))
    m.reach(other, second, (0.6, -0.35 + height, -0.35))
    m.reach(held, second, (-0.35, 0.05 + height, 0.35))
    for hand in (0, 1):
        m.reach(hand, close, (-0.3, -0.5, 0.45))
    sign = 1.0 if side == 0 else -1.0
    m.twist += 0.35 * power * sign * (second - first)
    m.nod += 0.3 * close
    m.lean += 0.12 * (first + second) * rng.uniform(0.0, 1.5)


def _donning(m: _Motion, rng: np.random.Generator, side: int, power: float) -> None:
    _coat(m, rng, side, power, m.phase)


def _doffing(m: _Motion, rng: np.random.Generator, side: int, power: float) -> None:
    _coat(m, rng, side, power, 1.0 - m.phase)


def _throw(m: _Motion, rng: np.random.Generator, side: int, power: float) -> None:
    wind, swing = _hump(m.phase, 0.1, 0.4, 0.45, 0.6), _hump(m.phase, 0.45, 0.6, 0.65, 0.95)
    over = rng.uniform(0.1, 0.9)
    m.reach(side, wind, (0.35, -0.45 + 0.95 * over * power, -0.35))
    m.reach(side, swing, (rng.uniform(-0.3, 0.1), -0.45 + 0.4 * over, 0.8))
    sign = 1.0 if side == 0 else -1.0
    m.twist += sign * power * (0.35 * swing - 0.45 * wind)
    m.lean += 0.25 * swing * power
    m.stride += 0.4 * swing
    m.step = np.full(len(m.phase), np.pi / 2 * (1 if side == 1 else -1))


def _carry(m: _Motion, rng: np.random.Generator, side: int, power: float) -> None:
    _walk(m, rng, np.full(len(m.phase), power), 0.02)
    if rng.random() < 0.5:
        m.turn += rng.uniform(-0.7, 0.7) * _rise(m.phase, 0.1, 0.9)
    held = 1.0 - 0.6 * _hump(m.phase, 0.75, 0.95, 1.5, 1.6) * (rng.random() < 0.3)
    low, far = rng.uniform(-0.75, -0.45), rng.uniform(0.3, 0.6)
    for hand in (0, 1):
        m.reach(hand, held, (rng.uniform(-0.3, 0.0), low, far))
    m.lean -= 0.08


_ACTIONS: tuple[Callable[[_Motion, np.random.Generator, int, float], None], ...] = (
    _pick_up_one,
    _pick_up_two,
    _drop_trash,
    _walk_around,
    _sit_down,
    _stand_up,
    _donning,
    _doffing,
    _throw,
    _carry,
)


def _perform(rng: np.random.Generator, action: int, who: _Subject) -> _Motion:
    """Return the control curves of one performance."""
    frames = int(np.clip(rng.normal(40, 9) * who.tempo, 14, 150))
    time = np.linspace(rng.uniform(-0.25, 0.12), rng.uniform(0.88, 1.25), frames)
    phase = np.sign(time) * np.abs(time) ** rng.uniform(0.8, 1.25)
    m = _Motion(phase)
    side = int(who.right_handed) if rng.random() < 0.85 else int(not who.right_handed)
    # Now and then a performance is only sketched.
    power = who.vigour * (rng.uniform(0.35, 0.6) if rng.random() < 0.15 else rng.uniform(0.7, 1.1))
    _ACTIONS[action](m, rng, side, power)
    if rng.random() < 0.2:
        _distract(m, rng)
    clock = np.arange(frames) / 12.0
    for curve, size in ((m.lean, 0.03), (m.twist, 0.06), (m.nod, 0.08), (m.turn, 0.05)):
        curve += size * np.sin(2 * np.pi * (rng.uniform(0.15, 0.5) * clock + rng.random()))
    for hand in (0, 1):
        drift = np.sin(2 * np.pi * (rng.uniform(0.15, 0.6, size=3) * clock[:, None] + rng.random(3)))
        m.hands[hand] += 0.06 * drift + rng.normal(0.0, 0.05, size=3)
    m.lean += who.stoop
    return m


def _distract(m: _Motion, rng: np.random.Generator) -> None:
    """Add a gesture that belongs to no action: a hand to the head, a glance, a step."""
    start = rng.uniform(0.0, 0.7)
    when = _hump(m.phase, start, start + 0.1, start + 0.2, start + 0.3)
    kind = rng.integers(3)
    if kind == 0:
        m.reach(int(rng.integers(2)), 0.8 * when, (-0.1, 0.25, 0.3))
    elif kind == 1:
        m.nod += when * rng.uniform(-0.6, 0.6)
        m.twist += when * rng.uniform(-0.5, 0.5)
    else:
        m.drop += 0.08 * when
        m.stride += 0.4 * when


def _limb(root: Array, tip: Array, upper: float, lower: float, bend: Array) -> tuple[Array, Array]:
    """Return (middle joint, end) of a two-bone limb that reaches for ``tip`` and bends towards ``bend``.

    All arrays are (T, 3); a tip out of reach is approached as far as the limb goes.
    """
    along = tip - root
    distance = np.linalg.norm(along, axis=1, keepdims=True)
    along = along / np.maximum(distance, 1e-6)
    distance = np.clip(distance, abs(upper - lower) + 0.02, 0.995 * (upper + lower))
    first = (upper**2 - lower**2 + distance**2) / (2 * distance)
    height = np.sqrt(np.maximum(upper**2 - first**2, 0.0))
    side = bend - (bend * along).sum(axis=1, keepdims=True) * along
    side = side / np.maximum(np.linalg.norm(side, axis=1, keepdims=True), 1e-6)
    return root + first * along + height * side, root + distance * along


def _basis(yaw: Array) -> tuple[Array, Array, Array]:
    """Return unit vectors left, up, forward (T, 3) of a body turned by ``yaw`` from facing the camera (-z)."""
    zero, one = np.zeros_like(yaw), np.ones_like(yaw)
    left = np.stack([-np.cos(yaw), zero, np.sin(yaw)], axis=1)
    forward = np.stack([-np.sin(yaw), zero, -np.cos(yaw)], axis=1)
    return left, np.stack([zero, one, zero], axis=1), forward


def _pose(m: _Motion, who: _Subject, heading: float) -> Array:
    """Return (T, 20, 3) joint positions, metres, floor at y = 0, the body starting above the origin."""
    frames = len(m.phase)
    x = np.zeros((frames, 20, 3))
    leg = who.thigh + who.shin
    left, up, forward = _basis(heading + m.turn)
    walked = np.cumsum(forward * np.diff(m.path, prepend=m.path[0])[:, None], axis=0)
    ground = walked - 0.5 * walked[-1]
    bob = 0.02 * m.stride * np.cos(2 * m.step)
    pelvis = ground + up * ((1.0 - m.drop) * leg * 0.98 + 0.1 + bob)[:, None] - forward * (m.back * leg)[:, None]

    # The trunk leans forward and twists over the pelvis.
    left_t, _, level = _basis(heading + m.turn + m.twist)
    cos, sin = np.cos(m.lean)[:, None], np.sin(m.lean)[:, None]
    up_t = cos * up + sin * level
    forward_t = cos * level - sin * up
    x[:, _HIP] = pelvis
    x[:, _SPINE] = pelvis + 0.18 * who.trunk * up_t
    x[:, _NECK] = pelvis + 1.15 * who.trunk * up_t
    cos, sin = np.cos(m.nod)[:, None], np.sin(m.nod)[:, None]
    x[:, _HEAD] = x[:, _NECK] + who.head * (cos * up_t + sin * forward_t)

    arm = who.upper_arm + who.forearm
    for (shoulder, elbow, wrist, hand), sign, target in zip(_ARMS, (1.0, -1.0), m.hands, strict=True):
        out = sign * left_t
        x[:, shoulder] = x[:, _NECK] + who.shoulder * out - 0.06 * up_t
        tip = x[:, shoulder] + arm * (target[:, :1] * out + target[:, 1:2] * up_t + target[:, 2:] * forward_t)
        bend = who.elbows_out * out - 0.6 * forward_t - 0.4 * up_t
        x[:, elbow], x[:, wrist] = _limb(x[:, shoulder], tip, who.upper_arm, who.forearm, bend)
        fore = x[:, wrist] - x[:, elbow]
        x[:, hand] = x[:, wrist] + 0.08 * fore / np.linalg.norm(fore, axis=1, keepdims=True)

    for (hip, knee, ankle, foot), sign in zip(_LEGS, (1.0, -1.0), strict=True):
        out = sign * left
        x[:, hip] = pelvis + who.hip * out - 0.07 * up
        swing = (0.32 * leg * m.stride * np.sin(m.step) * sign)[:, None]
        lift = (0.12 * m.stride * np.maximum(np.cos(m.step) * sign, 0.0))[:, None]
        sole = ground + 1.25 * who.hip * out + forward * swing + up * (0.08 + lift)
        x[:, knee], x[:, ankle] = _limb(x[:, hip], sole, who.thigh, who.shin, forward + 0.2 * out)
        x[:, foot] = x[:, ankle] + 0.11 * forward + 0.04 * out - 0.05 * up
    return x


def _film(x: Array, rng: np.random.Generator, view: int) -> Array:
    """Return what a camera records of a body: (T', 20, 3) in its own coordinates, trimmed and noisy."""
    azimuth = _AZIMUTH[view - 1] + rng.normal(0.0, 0.05)
    tilt = rng.normal(0.06, 0.03)
    c, s = np.cos(azimuth), np.sin(azimuth)
    x = x @ np.array([[c, 0.0, -s], [0.0, 1.0, 0.0], [s, 0.0, c]])
    x = x - np.array([rng.normal(0.0, 0.2), rng.uniform(0.7, 1.1), 0.0])
    c, s = np.cos(tilt), np.sin(tilt)
    x = x @ np.array([[1.0, 0.0, 0.0], [0.0, c, s], [0.0, -s, c]])
    cut, end = rng.integers(0, 4, size=2)
    x = x[cut : len(x) - end]
    # Joints behind the trunk, seen from here, are guessed by the tracker.
    hidden = x[:, :, 2] > x[:, :1, 2] + 0.08
    size = rng.uniform(0.006, 0.014) * _NOISE * np.where(hidden, 2.5, 1.0)
    noise = rng.normal(size=x.shape) * size[..., None]
    drift = np.empty_like(x)
    state = np.zeros(x.shape[1:])
    for t, push in enumerate(rng.normal(size=x.shape) * 0.6 * size[..., None]):
        state = 0.9 * state + push
        drift[t] = state
    lost = rng.random((len(x), 4)) < 0.02
    for limb, joints in enumerate((*_ARMS, *_LEGS)):
        jump = rng.normal(0.0, 0.12, size=(len(x), 1, 3)) * lost[:, limb, None, None]
        noise[:, list(joints[1:])] += jump
    x = x + noise + drift
    x[:, :, 2] += rng.uniform(2.4, 3.4)
    return np.asarray(x)


def sequence(seed: int, name: Name) -> Array:
    """Return the (F, 20, 3) coordinates of one file, metres in its camera's space.

    Args:
        seed: of the corpus.
        name: class, subject, episode and camera.
    """
    who = _subject(seed, name.subject)
    key = (name.label, name.subject, name.episode)
    rng = generator(seed, "synthetic-performance", *key)
    motion = _perform(rng, name.label, who)
    body = _pose(motion, who, heading=float(rng.normal(0.0, 0.6)))
    return _film(body, generator(seed, "synthetic-camera", *key, name.view), name.view)


def names(sequences: int) -> Iterator[Name]:
    """Return the names of a corpus: subject by subject, all actions and cameras, then the next episode.

    Raises:
        UserError: too few for every class and camera, or more than there are names.
    """
    most = _MOST_SUBJECTS * _EPISODES * _PER_SUBJECT
    if not _PER_SUBJECT <= sequences <= most:
        raise UserError(
            f"--sequences is {sequences}; a synthetic NW-UCLA corpus has {_PER_SUBJECT}"
            f" (each class before each camera once) to {most:,}"
        )
    subjects = max(_SUBJECTS, -(-sequences // (_EPISODES * _PER_SUBJECT)))
    every = (
        Name(label, subject, episode, view)
        for episode in range(_EPISODES)
        for subject in range(1, subjects + 1)
        for view in VIEWS
        for label in range(len(CLASSES))
    )
    return islice(every, sequences)


def _description(sequences: int, seed: int) -> dict[str, Any]:
    counts = {"train": [0] * len(CLASSES), "test": [0] * len(CLASSES)}
    for name in names(sequences):
        counts["test" if name.view == 3 else "train"][name.label] += 1
    return {
        "dataset": "nw-ucla",
        "made_by": {
            "command": f"stdcl data synth nw-ucla --sequences {sequences} --seed {seed}",
            "sequences": sequences,
            "seed": seed,
            "generator": GENERATOR_VERSION,
        },
        "counts": {"cross-view": counts},
    }


def write_corpus(out: Path, sequences: int, seed: int, *, progress: Progress = silent) -> bool:
    """Write a corpus of raw files; the folder appears whole or not at all.

    Args:
        out: folder to make.
        sequences: number of files.
        seed: decides their content.
        progress: told of each file.

    Returns:
        False if the same corpus was already there.

    Raises:
        UserError: ``out`` holds something else, or ``sequences`` is out of range.
    """
    description = _description(sequences, seed)
    if out.exists():
        if out.is_dir() and not any(out.iterdir()):
            pass
        elif (out / CORPUS_FILE).is_file() and _same(out / CORPUS_FILE, description):
            return False
        else:
            raise UserError(f"--out {out}: something else is there; give a new folder")
    with atomic.staging_dir(out) as folder:
        for done, name in enumerate(names(sequences), 1):
            stem = file_stem(name)
            content = {
                "file_name": stem,
                "skeletons": np.round(sequence(seed, name), 6).tolist(),
                "label": name.label + 1,
            }
            (folder / f"{stem}.json").write_text(json.dumps(content), encoding="utf-8")
            progress("writing", done, sequences)
        atomic.write_json(folder / CORPUS_FILE, description)
    return True


def _same(file: Path, description: dict[str, Any]) -> bool:
    try:
        return bool(json.loads(file.read_text(encoding="utf-8")) == description)
    except ValueError:
        return False


def prepare_synthetic(out: Path, sequences: int, seed: int, *, progress: Progress = silent) -> Prepared:
    """Write a corpus beside ``out`` (``<out>-raw``) and prepare it at ``out``, as real data would be."""
    raw = raw_folder(out)
    write_corpus(raw, sequences, seed, progress=progress)
    return prepare_nw_ucla(raw, out, progress=progress)


def synthesise(dataset: str, out: Path, *, sequences: int, seed: int, progress: Progress) -> None:
    """Write a corpus, see ``stdcl.data.synthetic.Synthesise``."""
    write_corpus(out, sequences, seed, progress=progress)
