"""From a configuration to the parts of a training; and the checks that need the data but no model."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from stdcl.config import RunConfig, fingerprint
from stdcl.config.paths import data_path
from stdcl.data.dataset import SkeletonDataset, Transform, default_loader
from stdcl.data.protocols import split, validation_split
from stdcl.data.store import SequenceStore
from stdcl.encoders.base import Encoder, Layout
from stdcl.encoders.build import build_encoder
from stdcl.errors import UserError
from stdcl.methods.stdcl.feasibility import check_feasible
from stdcl.methods.stdcl.head import DecouplingHead
from stdcl.methods.stdcl.sharded import Contrast
from stdcl.parallel.batch_norm import use_synchronised
from stdcl.parallel.comm import Comm
from stdcl.seeding import torch_seed
from stdcl.train.checkpoint import Identity
from stdcl.train.model import Model

_AUTOCAST = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": None, "float64": None}


@dataclass(frozen=True)
class Data:
    """The two parts of a split, and what they are called."""

    store: SequenceStore
    train: SkeletonDataset
    test: SkeletonDataset
    split: str

    @property
    def layout(self) -> Layout:
        manifest = self.store.manifest
        _, frames, joints, persons = self.train.shape
        return Layout(
            num_joints=joints,
            num_persons=persons,
            num_frames=frames,
            num_classes=len(manifest.classes),
            skeleton=manifest.skeleton,
        )


@dataclass(frozen=True)
class Assembly:
    """Everything a training is made of."""

    data: Data
    model: Model
    contrast: Contrast | None
    identity: Identity


def autocast_dtype(config: RunConfig) -> torch.dtype | None:
    """Return the reduced precision of the encoder's products, or None."""
    return _AUTOCAST[config.training.precision]


def open_data(config: RunConfig) -> Data:
    """Open the store and cut it by protocol.

    Raises:
        UserError: no store, another dataset than the configuration's, an unknown protocol, or an empty part.
    """
    settings = config.data
    path = data_path(settings.path)
    store = SequenceStore.open(path)
    found = store.manifest.dataset
    if settings.dataset != "custom" and found != settings.dataset:
        raise UserError(f"{path}: this store holds '{found}', but data.dataset is '{settings.dataset}'")
    protocol = settings.protocol
    if protocol == "default":
        protocol = next(iter(store.rules))
    parts = split(store, store.rules, protocol, found)
    name = f"{found}/{protocol}/test"
    train_rows, test_rows = parts.train, parts.test
    if settings.evaluate_on == "validation":
        held = validation_split(store, parts.train, fraction=settings.validation_fraction)
        train_rows, test_rows = held.train, held.test
        name = f"{found}/{protocol}/validation on subjects {','.join(map(str, held.subjects))}"
    if not isinstance(settings.frames, int):
        raise TypeError("data.frames is settled when a configuration is loaded")
    transform = Transform(
        loader=default_loader(found),
        frames=settings.frames,
        stream=settings.stream,
        convention="centred" if settings.convention == "centred" else "plain",
        orientation=settings.orientation,
        align=settings.align,
        centre=settings.centre,
        augment=settings.augment,
    )
    train = SkeletonDataset(store, train_rows, transform, repeat=settings.repeat, train=True, seed=config.training.seed)
    test = SkeletonDataset(store, test_rows, transform, train=False)
    return Data(store, train, test, name)


def slot_labels(config: RunConfig, data: Data) -> Tensor:
    """Return (L,) class indices of the bank's slots: one a training item, or one a clip."""
    labels = torch.from_numpy(data.train.labels)
    return labels[: len(data.train.rows)] if config.contrast.slots == "clip" else labels


def slots_of(config: RunConfig, data: Data, items: Tensor) -> Tensor:
    """Return the bank slot of each item."""
    return items % len(data.train.rows) if config.contrast.slots == "clip" else items


def check(config: RunConfig) -> Data:
    """Check a configuration against its data, before anything is launched: the model included.

    Raises:
        UserError: with a line for each fault.
    """
    data = check_data(config)
    new_head(config, new_encoder(config, data.layout))
    return data


def check_data(config: RunConfig) -> Data:
    """Check all of a configuration but its model against its data.

    Raises:
        UserError: with a line for each fault.
    """
    data = open_data(config)
    steps = data.train.num_items // config.training.batch_size
    if steps == 0 and config.training.drop_last:
        raise UserError(
            f"training.batch_size is {config.training.batch_size}, but there are {data.train.num_items} training "
            "items: not one complete batch"
        )
    if config.contrast.strategy != "none":
        problems = check_feasible(config.contrast, slot_labels(config, data))
        if problems:
            raise UserError("\n".join(problems))
    return data


def identity_of(config: RunConfig, data: Data) -> Identity:
    """Return what a checkpoint of this configuration on these data belongs to."""
    slots = 0 if config.contrast.strategy == "none" else len(slot_labels(config, data))
    return Identity(
        dataset_hash=data.store.manifest.content_hash,
        split=data.split,
        stream=config.data.stream,
        fingerprint=fingerprint(config),
        num_slots=slots,
    )


def new_encoder(config: RunConfig, layout: Layout) -> Encoder:
    """Build the encoder; its initial weights are a function of the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(torch_seed(config.training.seed, "encoder"))
        return build_encoder(config.encoder, layout)


def new_head(config: RunConfig, encoder: Encoder) -> DecouplingHead | None:
    """Build the decoupling head, or None without contrast."""
    if config.contrast.strategy == "none":
        return None
    shape = encoder.feature_shape()
    pooled = _pooled_width(encoder)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(torch_seed(config.training.seed, "head"))
        head = DecouplingHead(config.contrast, shape, pooled)
    if config.contrast.freeze_head:
        head.requires_grad_(False)
    return head


def _pooled_width(encoder: Encoder) -> int:
    layout = encoder.layout
    was_training = encoder.training
    encoder.eval()
    x = next(encoder.parameters()).new_zeros((1, 3, layout.num_frames, layout.num_joints, layout.num_persons))
    with torch.no_grad():
        width = encoder(x).pooled.shape[1]
    encoder.train(was_training)
    return int(width)


def assemble(config: RunConfig, comm: Comm, device: torch.device) -> Assembly:
    """Build data, model and banks for one rank.

    Raises:
        UserError: see :func:`check`.
    """
    data = check_data(config)
    encoder = new_encoder(config, data.layout)
    model = Model(encoder, new_head(config, encoder), autocast_dtype(config))
    dtype = torch.float64 if config.training.precision == "float64" else torch.float32
    model = model.to(device=device, dtype=dtype)
    if config.training.batch_norm == "sync":
        use_synchronised(model, comm)
    contrast = None
    if config.contrast.strategy != "none":
        contrast = Contrast(
            config.contrast,
            slot_labels(config, data),
            comm=comm,
            device=device,
            dtype=dtype,
            seed=config.training.seed,
            dataset=f"{data.store.manifest.content_hash} {data.split}",
        )
    return Assembly(data, model, contrast, identity_of(config, data))
