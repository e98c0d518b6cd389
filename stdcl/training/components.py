"""From a configuration to data, model and method; and the checks before a launch."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from functools import lru_cache

import torch

from stdcl import specs
from stdcl.config import RunConfig, fingerprint
from stdcl.config.paths import data_path
from stdcl.config.section import EncoderOptions
from stdcl.data.dataset import SkeletonDataset, Transform, default_loader
from stdcl.data.protocols import split, validation_split
from stdcl.data.store import SequenceStore
from stdcl.encoders.base import Encoder, Layout
from stdcl.encoders.build import build_encoder
from stdcl.encoders.pointwise import choose_together
from stdcl.errors import UserError
from stdcl.methods.base import FeatureShapes, Method, Task
from stdcl.methods.build import build_method, method_taps
from stdcl.parallel.batch_norm import use_synchronised
from stdcl.parallel.comm import Comm
from stdcl.seeding import torch_seed
from stdcl.training.checkpoint import Identity
from stdcl.training.model import Model
from stdcl.training.size import check_size

_AUTOCAST = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": None, "float64": None}


@dataclass(frozen=True)
class Data:
    """The two parts of a split, and what they are called.

    Attributes:
        store: where both are.
        train: the training part.
        test: the evaluated part.
        split: identity of the evaluated part, for checkpoints and scores.
        remarks: what a user should know about these data with this configuration, a sentence each.
    """

    store: SequenceStore
    train: SkeletonDataset
    test: SkeletonDataset
    split: str
    remarks: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Dataset and protocol, for people; the subjects where some are held out."""
        return self.split.removesuffix("/test")

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
class Components:
    """What a training is made of."""

    data: Data
    model: Model
    method: Method
    identity: Identity
    """What its checkpoints belong to."""


def autocast_dtype(config: RunConfig) -> torch.dtype | None:
    """Return the reduced precision of the encoder's products, or None."""
    return _AUTOCAST[config.training.precision]


def parameter_dtype(config: RunConfig) -> torch.dtype:
    """Return the type of the model's parameters."""
    return torch.float64 if config.training.precision == "float64" else torch.float32


def open_data(config: RunConfig) -> Data:
    """Open the store and cut it by protocol.

    Raises:
        UserError: no store, another dataset than the configuration's, an unknown protocol, or an empty part.
    """
    settings = config.data
    path = data_path(settings.path)
    store = SequenceStore.open(path)
    found = store.manifest.dataset
    if found != settings.dataset and not specs.dataset(settings.dataset).describes_itself:
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
    transform = transform_of(config, found)
    train = SkeletonDataset(store, train_rows, transform, repeat=settings.repeat, train=True, seed=config.training.seed)
    test = SkeletonDataset(store, test_rows, transform, train=False)
    return Data(store, train, test, name)


def transform_of(config: RunConfig, dataset: str) -> Transform:
    """Return how the sequences of a store of ``dataset`` become inputs."""
    settings = config.data
    return Transform(
        loader=default_loader(dataset),
        frames=settings.frames,
        stream=settings.stream,
        convention=settings.convention,
        orientation=settings.orientation,
        align=settings.align,
        centre=settings.centre,
        augment=settings.augment,
        rotation=settings.rotation,
    )


def check(config: RunConfig, opened: Callable[[RunConfig], Data] = open_data) -> Data:
    """Check a configuration against its data, model and method, before anything is launched.

    Args:
        config: the configuration.
        opened: gives its data.

    Raises:
        UserError: with one line per fault.
    """
    data = check_data(config, opened)
    options = config.encoder
    shapes = _shapes(type(options), options.model_dump_json(), data.layout, method_taps(config))
    return replace(data, remarks=build_method(config, _task(config, data), shapes).remarks)


@lru_cache(maxsize=64)
def _shapes(kind: type[EncoderOptions], options: str, layout: Layout, taps: tuple[str, ...]) -> FeatureShapes:
    """Return the shapes of an encoder's outputs; cells of a sweep that differ elsewhere share one dry run."""
    check_size("encoder", lambda: build_encoder(kind.model_validate_json(options), layout))
    with torch.random.fork_rng(devices=[]):
        return _shapes_of(build_encoder(kind.model_validate_json(options), layout), taps)


def _shapes_of(encoder: Encoder, taps: tuple[str, ...]) -> FeatureShapes:
    encoder.request_taps(taps)
    shapes = encoder.output_shapes()
    return FeatureShapes(shapes.feature_map, shapes.pooled, shapes.taps)


def _task(config: RunConfig, data: Data) -> Task:
    return Task(
        labels=torch.from_numpy(data.train.labels),
        num_clips=len(data.train.rows),
        classes=tuple(data.store.manifest.classes),
        skeleton=data.layout.skeleton,
        seed=config.training.seed,
        batch_size=config.training.batch_size,
        identity=f"{data.store.manifest.content_hash} {data.split}",
    )


def check_plugins(config: RunConfig, sections: Collection[str] = ("data", "encoder", "method")) -> None:
    """Refuse plug-ins whose code is not what a configuration was made with.

    Args:
        config: of a run.
        sections: those that matter; a trained network is used without its method.

    Raises:
        UserError: it names the plug-in.
    """
    for section, code in config.plugin_codes().items():
        if section in sections and config.plugins.get(section) != code:
            key, name = (
                ("data.dataset", config.data.dataset)
                if section == "data"
                else (f"{section}.name", getattr(config, section).name)
            )
            raise UserError(
                f"{key}: {name}: its code has changed (digest {code}, the configuration says "
                f"{config.plugins.get(section)}); install what the run was made with, or start a new run"
            )


def check_data(config: RunConfig, opened: Callable[[RunConfig], Data] = open_data) -> Data:
    """Check all of a configuration but its model and method against its data; arguments as of :func:`check`.

    Raises:
        UserError: with one line per fault.
    """
    check_plugins(config)
    data = opened(config)
    steps = data.train.num_items // config.training.batch_size
    if steps == 0 and config.training.drop_last:
        raise UserError(
            f"training.batch_size is {config.training.batch_size}, but there are {data.train.num_items} training "
            "items: not one complete batch"
        )
    return data


def new_encoder(config: RunConfig, layout: Layout) -> Encoder:
    """Build the encoder; its initial weights are a function of the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(torch_seed(config.training.seed, "encoder"))
        return build_encoder(config.encoder, layout)


def build_model(config: RunConfig, data: Data) -> tuple[Model, Method]:
    """Build encoder, method and the module that trains both, on the CPU in float32.

    Raises:
        UserError: the encoder or the method does not fit the data, or they do not fit each other.
    """
    encoder = new_encoder(config, data.layout)
    method = build_method(config, _task(config, data), _shapes_of(encoder, method_taps(config)))
    return Model(encoder, method, autocast_dtype(config)), method


def build_components(config: RunConfig, comm: Comm, device: torch.device) -> Components:
    """Build data, model and method for one rank.

    Raises:
        UserError: see :func:`check`.
    """
    data = check_data(config)
    model, method = build_model(config, data)
    dtype = parameter_dtype(config)
    model = model.to(device=device, dtype=dtype)
    choose_together(comm, device)
    if config.training.batch_norm == "sync":
        use_synchronised(model, comm)
    method.start(comm, device, dtype)
    identity = Identity(
        dataset_hash=data.store.manifest.content_hash,
        split=data.split,
        stream=config.data.stream,
        fingerprint=fingerprint(config),
        num_slots=method.num_slots,
    )
    return Components(data, model, method, identity)
