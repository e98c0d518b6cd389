"""The shape of one run: every key, its type, its default, and what it means.

A run file is YAML with these sections. Nothing else is accepted; every default stands here or in a recipe
(``stdcl/recipes``), and the resolved whole is saved with each run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, Field, ValidationInfo, field_validator, model_validator

from stdcl import specs
from stdcl.config import wandb_names
from stdcl.config.checkpoints import CheckpointsConfig
from stdcl.config.contrast import ContrastConfig, settle_contrast
from stdcl.config.section import (
    Auto,
    ChosenByName,
    Clashes,
    EncoderOptions,
    MethodOptions,
    Natural,
    OneOf,
    Positive,
    Section,
    Seed,
)

Stream = Literal[
    "joint", "bone", "joint-motion", "bone-motion",
    "relative-1", "relative-2", "relative-3", "relative-4", "relative-5", "relative-6", "relative-7", "relative-8",
    "relative-1-motion", "relative-2-motion", "relative-3-motion", "relative-4-motion",
    "relative-5-motion", "relative-6-motion", "relative-7-motion", "relative-8-motion",
]  # fmt: skip


def _dataset_names() -> tuple[str, ...]:
    return tuple(specs.datasets())


def _encoder_options(chosen: str) -> dict[str, type[BaseModel]]:
    known = specs.encoders()
    known.get(chosen)  # an import path joins the others when it is looked up
    return {name: spec.options for name, spec in known.items()}


def _method_options(chosen: str) -> dict[str, type[BaseModel]]:
    known = specs.methods()
    known.get(chosen)
    own = {name: spec.options for name, spec in known.items() if spec.section == METHOD}
    return own | dict.fromkeys((STDCL, NO_METHOD), MethodOptions)


STDCL, NO_METHOD = "stdcl", "none"
"""Values of ``method.name`` that leave no section ``method``: what ``contrast`` says, and cross-entropy alone."""
METHOD = "method"
"""The section of the methods that have none of their own."""
METHOD_NAME = f"{METHOD}.name"


def is_of_method(key: str) -> bool:
    """Whether a dotted key says what is trained with beside cross-entropy."""
    return key.startswith(("contrast.", f"{METHOD}."))


def is_treatment(key: str) -> bool:
    """Whether cells that differ in the dotted ``key`` alone share a baseline, which does not read it."""
    of_features = {f"encoder.{option}" for spec in specs.encoders().values() for option in spec.feature_options}
    return is_of_method(key) or key in of_features


def is_baseline(settings: Mapping[str, Any]) -> bool:
    """Whether dotted keys of a configuration, or of a sweep's cell, say that it is cross-entropy alone."""
    return settings.get(METHOD_NAME) == NO_METHOD or settings.get("contrast.strategy") == "none"


class SyntheticConfig(Section):
    """A synthetic corpus in the dataset's own raw format, made and prepared at ``data.path`` if nothing is there."""

    sequences: Positive = 400
    """Sequences over all classes, subjects and cameras."""
    seed: Seed = 0
    """Seed of the corpus (not of the training)."""


class DataConfig(Section):
    """What is trained on."""

    dataset: Annotated[str, OneOf(_dataset_names)]
    """Which dataset the store at ``path`` must hold; or the import path of another package's record."""
    path: Annotated[str, Field(min_length=1), Auto()]
    """Folder of the prepared store; a relative one is looked up under $STDCL_DATA, then under the current folder (one
    that begins with ./ or ../ there alone). $NAME and ~ are replaced. auto: the dataset's name, unless the data are
    synthetic."""
    protocol: str = "default"
    """The split: cross-view (NW-UCLA), x-sub, x-view (NTU60), x-sub, x-set (NTU120), or a custom dataset's own;
    default: the first of them."""
    stream: Stream = "joint"
    """Input stream; relative-k are InfoGCN's relative-position modes."""
    convention: Annotated[Literal["plain", "centred"], Auto()]
    """How streams are derived: as CTR-GCN (plain) or as Hyperformer (centred on a joint). auto: the encoder's own."""
    orientation: Literal["parent", "children"] = "parent"
    """Of relative-k streams: a joint minus its k-th ancestor, or, as InfoGCN's code has it on NW-UCLA, its children."""
    align: bool = False
    """Turn each NTU body upright and to the front, once per clip (InfoGCN's aligned arrays)."""
    centre: Literal["clip", "frame"] = "clip"
    """Origin of the coordinates: once per clip, or in each frame (HCN's own NTU preprocessing)."""
    frames: Annotated[Positive, Field(le=10_000), Auto()]
    """Frames T given to the encoder; auto: the dataset's own, 52 on NW-UCLA and 64 elsewhere."""
    repeat: Positive = 1
    """How often an epoch visits each clip; each visit is an item of its own, with a bank slot of its own."""
    augment: bool = True
    """Random rotation, crop and frame choice in training."""
    rotation: bool = True
    """Whether augment includes the random rotation (on NW-UCLA with a scale); false: crop and frame choice alone."""
    evaluate_on: Literal["test", "validation"] = "test"
    """validation: hold out whole training subjects and never read the test set (for searches)."""
    validation_fraction: float = Field(default=0.2, gt=0, lt=1)
    """Share of the training subjects held out when evaluate_on is validation (rounded, at least one)."""
    synthetic: SyntheticConfig | None = None
    """Make a synthetic corpus instead of reading a real one."""


EncoderConfig = Annotated[EncoderOptions, ChosenByName(_encoder_options)]
"""The options of one of the encoders that ``stdcl.specs.encoders`` finds."""


MethodConfig = Annotated[MethodOptions | None, ChosenByName(_method_options, optional=True)]
"""The options of one of the methods that ``stdcl.specs.methods`` finds, except STD-CL."""


class TrainingConfig(Section):
    """Optimiser, schedule and what surrounds them."""

    epochs: Positive
    batch_size: Positive
    """The global batch; each of W workers takes its W-th part."""
    optimizer: Literal["sgd", "adam"] = "sgd"
    learning_rate: float = Field(gt=0)
    warmup_epochs: Natural = 0
    """Epochs of linear warm-up, constant within an epoch."""
    schedule: Literal["step", "exponential", "cosine"] = "step"
    """step: times decay at each milestone; exponential: times decay each epoch; cosine: to zero, by step."""
    milestones: tuple[Natural, ...] = Field(default=(), strict=False)
    decay: float = Field(default=0.1, gt=0, le=1)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    nesterov: bool = True
    weight_decay: float = Field(default=0.0, ge=0)
    """On every parameter, as the reference trainers do."""
    gradient_clip: float | None = Field(default=None, gt=0)
    """Largest norm of the gradient; null: no clipping."""
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    precision: Literal["float32", "bfloat16", "float16", "float64"] = "float32"
    """Of the encoder's products; losses and contrast stay in float32 (float64: everything in double, for tests)."""
    tf32: Literal["convolutions", "none", "all"] = "convolutions"
    """Where NVIDIA GPUs round the factors of float32 products to 10 bits (TF32). convolutions: in cuDNN's alone, as
    PyTorch does by default; all: also in matrix products; none: nowhere, float32 throughout. CPUs have no TF32."""
    deterministic: bool = False
    """On GPUs, deterministic algorithms alone; an operation that has none ends the training. CPUs are deterministic."""
    batch_norm: Literal["sync", "local"] = "sync"
    """Statistics over the global batch (any number of workers takes the same steps), or over each worker's part."""
    drop_last: bool = True
    """Leave out an epoch's last, incomplete batch."""
    seed: Seed = 1
    evaluate_every: Positive = 1
    """Epochs between evaluations; the last epoch is always evaluated."""
    checkpoint_every: Positive = 1
    """Epochs between checkpoints; the last epoch always has one."""
    checkpoint_every_steps: Positive | None = None
    """Also write a checkpoint each so many steps inside an epoch."""

    @model_validator(mode="after")
    def _schedule_fits(self) -> TrainingConfig:
        if self.warmup_epochs > self.epochs:
            raise ValueError(f"warmup_epochs ({self.warmup_epochs}) cannot be larger than epochs ({self.epochs})")
        if list(self.milestones) != sorted(set(self.milestones)):
            raise ValueError(f"milestones {list(self.milestones)} must increase")
        if self.milestones and self.schedule != "step":
            raise ValueError(f"milestones belong to schedule 'step', not to '{self.schedule}'")
        return self


class ResourcesConfig(Section):
    """What one training gets of the cluster."""

    workers: Positive = 2
    """Ray Train workers (ranks). 1: the loop runs in the trial's own process, without a process group."""
    cpus_per_worker: float = Field(default=1.0, gt=0)
    gpus_per_worker: float = Field(default=0.0, ge=0)
    """0: CPU and gloo. 1: CUDA and NCCL. A fraction: several trials share a GPU; only with one worker."""
    placement: Literal["PACK", "SPREAD", "STRICT_PACK", "STRICT_SPREAD"] = "PACK"
    max_failures: Natural = 2
    """How often a training may be restarted from its checkpoint after lost workers."""
    collective_timeout: float = Field(default=60.0, gt=0)
    """Seconds after which a collective without an answer ends the attempt."""
    loader_threads: Natural = 1
    """Threads a worker that prepare batches ahead; 0: in the loop itself."""

    @model_validator(mode="after")
    def _gpus_fit(self) -> ResourcesConfig:
        if self.workers > 1 and self.gpus_per_worker not in (0.0, 1.0):
            raise ValueError(
                f"gpus_per_worker is {self.gpus_per_worker} with {self.workers} workers; allowed are 0 and 1 "
                "(two NCCL ranks cannot share a GPU, and a rank drives one)"
            )
        if self.workers == 1 and self.gpus_per_worker > 1:
            raise ValueError(f"gpus_per_worker is {self.gpus_per_worker}; a rank drives at most one GPU")
        return self


class TrackingConfig(Section):
    """Where numbers are shown. The run folder always has them all."""

    wandb: Literal["auto", "online", "offline", "disabled"] = "auto"
    """auto: online where an account is set up, else offline."""
    project: str | None = None
    """W&B project; null: $WANDB_PROJECT, else stdcl."""
    entity: str | None = None
    """W&B user or team; null: $WANDB_ENTITY, else the account's default."""

    @field_validator("project", "entity")
    @classmethod
    def _acceptable(cls, value: str | None, info: ValidationInfo) -> str | None:
        fault = wandb_names.fault(value, str(info.field_name)) if value is not None else ""
        if fault:
            raise ValueError(fault)
        return value


class InitConfig(Section):
    """Another run that this one starts from."""

    run: str = Field(min_length=1)
    """Its folder (a finished run, or an imported checkpoint); a relative one is looked up under the current folder and
    $STDCL_STORAGE."""
    what: Literal["encoder", "training"] = "encoder"
    """encoder: its weights, with a new optimiser and schedule (fine-tuning). training: everything, to train longer; the
    learning rate of the further epochs is what this configuration's schedule says for them."""
    digest: str | None = None
    """Of the checkpoint; filled in by the command, and compared where it is given."""


class RunConfig(Section):
    """One training, completely."""

    recipe: Literal["full", "ablation", "lite", "none"] = "full"
    """Which recipe fills the keys that the file leaves out. full: as published. ablation: the cheapest at which more
    training no longer changes much, for comparisons between settings (some encoders, NW-UCLA). lite: for CPUs and first
    tries. none: the file gives every key."""
    data: DataConfig
    encoder: EncoderConfig
    contrast: ContrastConfig = ContrastConfig()
    method: MethodConfig = None
    """Another method in place of STD-CL, whose section contrast is then not read. Its name chooses it; stdcl stands for
    the section contrast, none for cross-entropy alone."""
    training: TrainingConfig
    init_from: InitConfig | None = None
    """Start from another run instead of random weights."""
    resources: ResourcesConfig = ResourcesConfig()
    checkpoints: CheckpointsConfig = CheckpointsConfig()
    tracking: TrackingConfig = TrackingConfig()
    plugins: dict[str, str] = Field(default_factory=dict)
    """Digest of the code of a dataset, an encoder or a method that another package brings, by section; filled in by the
    command. A training with other code is refused."""

    @model_validator(mode="before")
    @classmethod
    def _settle(cls, raw: Any) -> Any:
        """Replace every 'auto' and 'default' by what it stands for, so that a saved configuration says it."""
        if not isinstance(raw, dict):
            return raw
        chosen = raw["method"].get("name") if isinstance(raw.get("method"), dict) else None
        if chosen in (STDCL, NO_METHOD):
            raw = {key: value for key, value in raw.items() if key != "method"}
        if chosen == NO_METHOD:
            raw["contrast"] = {"strategy": "none"}
        if isinstance(raw.get("contrast"), dict):
            raw = {**raw, "contrast": settle_contrast(raw["contrast"])}
        if not isinstance(raw.get("data"), dict):
            return raw
        data, encoder = dict(raw["data"]), raw.get("encoder")
        name = encoder.get("name") if isinstance(encoder, dict) else getattr(encoder, "name", None)
        kind = specs.encoders().get(name) if isinstance(name, str) else None
        dataset = specs.datasets().get(data["dataset"]) if isinstance(data.get("dataset"), str) else None
        # With an unknown name nothing is known to stand for auto; the name is the fault that is reported.
        settled = {
            "protocol": ("default", dataset.default_protocol if dataset else "default"),
            "frames": ("auto", dataset.frames if dataset else 1),
            "convention": ("auto", kind.convention if kind else "plain"),
        }
        # A synthetic corpus is made at its path: not where the real data are looked for.
        if dataset is not None and data.get("synthetic") is None:
            settled["path"] = ("auto", dataset.name)
        for key, (unsettled, value) in settled.items():
            if data.get(key, unsettled) == unsettled:
                data[key] = value
        out = {**raw, "data": data}
        if kind is not None and isinstance(encoder, dict):
            encoder = out["encoder"] = dict(kind.settle(encoder, data))
        method = raw.get("method")
        spec = specs.methods().get(str(method.get("name"))) if isinstance(method, dict) else None
        if spec is not None and isinstance(method, dict):
            out["method"] = dict(spec.settle(method, data, encoder if isinstance(encoder, dict) else {}))
        codes = {
            section: specs.code_digest(each)
            for section, each in (("data", dataset), ("encoder", kind), ("method", spec))
            if each is not None
        }
        given = raw.get("plugins", {})
        if any(codes.values()) and isinstance(given, dict):
            out["plugins"] = {section: code for section, code in codes.items() if code} | given
        return out

    def plugin_codes(self) -> dict[str, str]:
        """Return what ``plugins`` would hold for the code that is installed here."""
        used: dict[str, specs.DatasetSpec | specs.EncoderSpec | specs.MethodSpec] = {
            "data": specs.dataset(self.data.dataset),
            "encoder": specs.encoder(self.encoder.name),
        }
        if self.method is not None:
            used["method"] = specs.method(self.method.name)
        return {section: code for section, spec in used.items() if (code := specs.code_digest(spec))}

    @property
    def method_name(self) -> str:
        """The method's name among ``stdcl.specs.methods``; empty for cross-entropy alone."""
        if self.method is not None:
            return self.method.name
        return "stdcl" if self.contrast.strategy != "none" else ""

    @property
    def exchange(self) -> str:
        """What travels between the ranks that hold the banks; empty without banks."""
        options = self.contrast if self.method is None else self.method
        return str(getattr(options, "exchange", "")) if self.method_name else ""

    @property
    def arm(self) -> str:
        """What is trained with beside cross-entropy: a method's name, or STD-CL's strategy; ``none`` for nothing."""
        return self.contrast.strategy if self.method is None else self.method.name

    @model_validator(mode="after")
    def _parts_fit(self) -> RunConfig:
        clashes = list(self._clashes())
        if clashes:
            raise Clashes(clashes)
        return self

    def _clashes(self) -> Iterator[tuple[str, str]]:
        data, contrast, training = self.data, self.contrast, self.training
        dataset = specs.dataset(data.dataset)
        allowed = dataset.protocols
        if allowed and data.protocol not in allowed:
            yield (
                "data.protocol",
                f"data.protocol is '{data.protocol}', which {data.dataset} does not have; "
                f"allowed: {', '.join(allowed)}",
            )
        if data.synthetic is not None and not dataset.synthesise:
            made = ", ".join(each.name for each in specs.datasets().values() if each.synthesise)
            yield (
                "data.synthetic",
                f"data.synthetic makes corpora of {made}; data.dataset is '{data.dataset}'",
            )
        if data.convention == "centred" and data.stream.startswith("relative-"):
            yield (
                "data.stream",
                f"data.stream '{data.stream}' has no 'centred' convention; set data.convention: plain",
            )
        if self.method is not None and contrast != ContrastConfig():
            yield (
                "contrast",
                f"contrast is STD-CL's section, but method.name is '{self.method.name}', which does not read it; leave "
                "one of the two out",
            )
        active = self.method is None and contrast.strategy != "none"
        begin = getattr(self.method, "start_epoch", 0)
        if begin >= training.epochs:
            yield (
                "method.start_epoch",
                f"method.start_epoch is {begin}, but training.epochs is {training.epochs}: its loss would never run",
            )
        if active and contrast.start_epoch >= training.epochs:
            yield (
                "contrast.start_epoch",
                f"contrast.start_epoch is {contrast.start_epoch}, but training.epochs is {training.epochs}: "
                "the contrastive loss would never run",
            )
        if training.batch_size < self.resources.workers:
            yield (
                "resources.workers",
                f"training.batch_size ({training.batch_size}) is smaller than resources.workers "
                f"({self.resources.workers}): some workers would never see a sequence",
            )


RECIPES = tuple(kind for kind in get_args(RunConfig.model_fields["recipe"].annotation) if kind != "none")
"""The kinds of recipes that are files."""
