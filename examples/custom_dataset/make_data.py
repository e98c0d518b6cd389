"""Writes the data of this example: 9 joints of an upper body, 4 gestures, 6 people, as one ``.npz`` file a person.

python examples/custom_dataset/make_data.py examples/custom_dataset/clips
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

CLASSES = ("wave left", "wave right", "clap", "nod")
CLIPS = 12  # of each person and gesture

#        pelvis     chest      head       left arm (shoulder, elbow, hand)              right arm
REST = [
    (0, 0, 0),
    (0, 50, 0),
    (0, 75, 0),
    (18, 45, 0),
    (22, 20, 0),
    (24, -5, 5),
    (-18, 45, 0),
    (-22, 20, 0),
    (-24, -5, 5),
]


def gesture(name: str, frames: int, rng: np.random.Generator) -> np.ndarray:
    """Return one clip, (frames, 9, 3), in centimetres: any unit will do."""
    x = np.tile(np.array(REST, dtype=np.float64), (frames, 1, 1))
    phase = np.linspace(0, 2 * np.pi * rng.uniform(2, 3), frames) + rng.uniform(0, 2 * np.pi)
    swing = 15 * rng.uniform(0.8, 1.2) * np.sin(phase)
    for side, elbow, hand in ((1, 4, 5), (-1, 7, 8)):
        if name == ("wave left" if side == 1 else "wave right"):
            x[:, elbow] += [side * 10, 30, 5]
            x[:, hand] += [side * 10, 75, 5]
            x[:, hand, 0] += swing
        elif name == "clap":
            x[:, elbow] += [0, 5, 20]
            x[:, hand, 1:] += [40, 30]
            x[:, hand, 0] -= side * (12 + 0.7 * swing)
    if name == "nod":
        x[:, 2, 2] += 0.5 * swing
    return x * rng.uniform(0.9, 1.1) + rng.normal(0, 1.0, x.shape) + rng.normal(0, 30, 3)


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for person in range(1, 7):
        rng = np.random.default_rng(person)
        labels = np.repeat(np.arange(len(CLASSES)), CLIPS)
        clips = [gesture(CLASSES[label], int(rng.integers(25, 60)), rng) for label in labels]
        np.savez_compressed(
            folder / f"person{person}.npz",
            values=np.concatenate(clips).astype(np.float32),
            lengths=np.array([len(clip) for clip in clips]),
            label=labels,
            subject=np.full(len(clips), person),
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
