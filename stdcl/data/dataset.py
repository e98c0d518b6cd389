"""Batches of one stream from a store: read, augment, derive the stream, lay out for the encoders.

What happens to an item is a function of (seed, epoch, item) alone: not of the batch it is in, the worker, or
the rank.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from stdcl import specs
from stdcl.data import augment, streams
from stdcl.data.missing import carried, filled
from stdcl.data.store import SequenceStore
from stdcl.errors import UserError
from stdcl.seeding import generator

Loader = Literal["pick", "resample"]
FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class Transform:
    """How a stored sequence becomes an input.

    Attributes:
        loader: ``pick`` (NW-UCLA): view rotation, min-max per axis, frames picked; ``resample`` (NTU): crop,
            linear resampling, small rotation.
        frames: T.
        stream: see :func:`stdcl.data.streams.derive`.
        convention: ``plain`` (CTR-GCN) or ``centred`` (Hyperformer).
        orientation: of the relative-position streams.
        centre: origin of the coordinates: once per ``clip``, or in each ``frame`` (HCN).
        augment: draw rotation, crop and frames in training; otherwise training sees what a test would.
        rotation: whether augmentation includes the random rotation (``pick``: with its scale).
        align: turn each NTU body upright and to the front, once per clip (InfoGCN).
    """

    loader: Loader
    frames: int
    stream: str = "joint"
    convention: streams.Convention = "plain"
    orientation: streams.Orientation = "parent"
    centre: Literal["clip", "frame"] = "clip"
    augment: bool = True
    rotation: bool = True
    align: bool = False

    def __post_init__(self) -> None:
        streams.check_stream(self.stream)
        if self.frames < 1:
            raise UserError(f"data.frames is {self.frames}; it must be at least 1")


def default_loader(dataset: str) -> Loader:
    """Return the loader that a dataset is used with; one that is not known is somebody's own."""
    known = specs.datasets()
    return known.get(dataset, known["custom"]).loader


class Batch(NamedTuple):
    """A batch of n items.

    Attributes:
        x: (n, 3, T, V, M) float32.
        labels: (n,) int64 class indices.
        items: (n,) int64 item numbers (bank slots).
        present: (n, M) bool: persons that are really there (a filled-in zero or copied person is not).
    """

    x: torch.Tensor
    labels: torch.Tensor
    items: torch.Tensor
    present: torch.Tensor

    def to(self, device: torch.device) -> Batch:
        """Return the batch on ``device``; pinned memory travels beside the computation."""
        return Batch(*(part.to(device, non_blocking=True) for part in self))

    def pin_memory(self) -> Batch:
        """Return the batch in page-locked memory (CUDA)."""
        return Batch(*(part.pin_memory() for part in self))


class SkeletonDataset:
    """The items of one part of a split.

    Item i is clip ``rows[i % len(rows)]``; with ``repeat`` > 1 the items of a clip differ in their
    augmentation, and each has a bank slot of its own. Holds no copy of the data: sequences are read from the
    store's memory map.
    """

    def __init__(
        self,
        store: SequenceStore,
        rows: IntArray,
        transform: Transform,
        *,
        repeat: int = 1,
        train: bool,
        seed: int = 0,
    ) -> None:
        """Describe the items.

        Args:
            store: the prepared data.
            rows: row numbers of the clips, in the order of the items.
            transform: what happens to a sequence.
            repeat: items a clip.
            train: whether items are augmented (if the transform augments at all).
            seed: of the augmentation; together with epoch and item it decides everything that is drawn.

        Raises:
            UserError: no rows, ``repeat`` below 1, or alignment of other bodies than NTU's.
        """
        if len(rows) == 0:
            raise UserError(f"{store.path}: a dataset of no sequences was asked for")
        if repeat < 1:
            raise UserError(f"data.repeat is {repeat}; it must be at least 1")
        if transform.align and (store.skeleton.name != "ntu" or transform.loader != "resample"):
            raise UserError(f"{store.path}: data.align is for NTU bodies; this store has '{store.skeleton.name}'")
        self.store = store
        self.rows = np.asarray(rows, dtype=np.int64)
        self.transform = transform
        self.repeat = repeat
        self.train = train
        self.seed = seed
        self._random = train and transform.augment
        #: Coordinates of a joint; two where the third number is a score.
        self._axes = 2 if store.manifest.third == "score" else 3
        if self._axes == 2 and transform.loader != "resample":
            raise UserError(f"{store.path}: joints with a score are read by the resampling loader alone")

    @property
    def num_items(self) -> int:
        """Items of an epoch."""
        return self.repeat * len(self.rows)

    def __len__(self) -> int:
        return self.num_items

    @cached_property
    def labels(self) -> IntArray:
        """(num_items,) class indices."""
        return np.tile(self.store.labels[self.rows], self.repeat)

    @cached_property
    def ids(self) -> list[str]:
        """Clip id of each item."""
        return [self.store.ids[row] for row in self.rows] * self.repeat

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(3, T, V, M) of an item."""
        manifest = self.store.manifest
        return 3, self.transform.frames, manifest.skeleton.num_joints, manifest.max_persons

    def batch(self, epoch: int, items: IntArray) -> Batch:
        """Return the given items as an epoch sees them.

        Args:
            epoch: from 0; matters only where items are augmented.
            items: (n,) item numbers; n may be 0.
        """
        items = np.asarray(items, dtype=np.int64)
        _, frames, joints, persons = self.shape
        rows = self.rows[items % len(self.rows)]
        x = np.zeros((len(items), frames, persons, joints, 3), dtype=np.float32)
        present = np.zeros((len(items), persons), dtype=np.bool_)
        copy = self.store.manifest.absent_person == "copy"
        for i, (item, row) in enumerate(zip(items.tolist(), rows.tolist(), strict=True)):
            sequence = self.store.sequence(row)
            if not self.store.manifest.centred:
                origin, scale = self.store.skeleton.origin, self.store.manifest.scale
                sequence = augment.to_origin(sequence, origin, scale=scale, axes=self._axes)
            here = sequence.shape[1]
            present[i, :here] = True
            rng = generator(self.seed, "augment", epoch, item) if self._random else None
            if self.transform.loader == "pick":
                x[i, :, :here] = self._pick(sequence, rng)
            else:
                x[i, :, :here] = self._resample(sequence, rng)
            if copy:
                x[i, :, here:] = x[i, :, :1]
        if self.transform.loader == "resample" and self.transform.centre == "frame":
            # Subtraction commutes with resampling and rotation; done here, it covers filled-in persons too.
            origin = self.store.skeleton.origin
            x[..., : self._axes] -= carried(x[:, :, 0, origin, : self._axes])[:, :, None, None]
        out = streams.derive(
            x, self.store.skeleton, self.transform.stream, self.transform.convention, self.transform.orientation
        )
        if self._axes == 2:
            out[..., 2] = streams.scores(x[..., 2], self.store.skeleton, self.transform.stream)
        if self.store.manifest.missing_joints:
            out = filled(out)
        return Batch(
            x=torch.from_numpy(np.ascontiguousarray(out.transpose(0, 4, 1, 3, 2))),
            labels=torch.from_numpy(self.labels[items]),
            items=torch.from_numpy(items.copy()),
            present=torch.from_numpy(present),
        )

    def _pick(self, sequence: FloatArray, rng: np.random.Generator | None) -> NDArray[np.float64]:
        origin = self.store.skeleton.origin
        x = sequence.astype(np.float64)
        centre = augment.centre_frames if self.transform.centre == "frame" else augment.centre_clip
        x = centre(x, origin)
        if rng is not None:
            view = augment.draw_view(rng)  # also where it is not used: the frames drawn next stay the same
            x = augment.rotate(x, augment.view_matrix(view)) if self.transform.rotation else x
        low, high = augment.extent(x)
        if rng is None:
            picked = augment.even_frames(len(x), self.transform.frames)
        else:
            picked = augment.draw_frames(rng, len(x), self.transform.frames)
        return augment.min_max(x[picked], low, high)

    def _resample(self, sequence: FloatArray, rng: np.random.Generator | None) -> FloatArray:
        valid = max(augment.valid_frames(sequence), 1)
        crop = augment.centre_crop(valid) if rng is None else augment.draw_crop(rng, valid)
        x = augment.align_persons(sequence) if self.transform.align else sequence
        x = augment.resample(x, crop, self.transform.frames)
        if rng is not None and self.transform.rotation:
            turned = augment.draw_axis_rotation(rng).T.astype(np.float32)
            x = augment.rotate(x, turned) if self._axes == 3 else augment.rotate_flat(x, turned)
        return x
