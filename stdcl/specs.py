"""Records that describe encoders, datasets and methods, and the functions that find them.

A record is made of plain values. It names code by import path (``package.module:name``), so reading a record imports
neither torch nor Ray. The package of an encoder, a dataset or a method under ``stdcl/encoders``, ``stdcl/data`` or
``stdcl/methods`` holds its records in ``SPECS``; an installed package can offer more through the entry point groups
``stdcl.encoders``, ``stdcl.datasets`` and ``stdcl.methods``. Nothing registers itself: the first call of
``encoders()``, ``datasets()`` or ``methods()`` looks for the records, and everything that lists them (configuration,
command line, reports, documentation, tests) asks there. An entry point that is broken is passed over: see
``passed_over``. A name with a colon, ``package.module:name``, is an import path: it leads to a record, or to an
encoder's or a method's class whose attribute ``options`` is the model of its section.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Literal, Protocol, TypeVar

from stdcl.errors import UserError, nearest

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pydantic import BaseModel

    from stdcl.skeleton import Skeleton

Renaming = tuple[tuple[str, str], ...]
"""Pairs (pattern in our parameter name, its replacement), each applied to what the one before left."""

Settle = Callable[[Mapping[str, Any], Mapping[str, Any]], Mapping[str, Any]]
"""(section of the encoder, section of the data), both unchecked -> the encoder's section without ``auto``."""


SettleMethod = Callable[[Mapping[str, Any], Mapping[str, Any], Mapping[str, Any]], Mapping[str, Any]]
"""(section of the method, of the data with its protocol settled, of the encoder), unchecked -> the method's section."""


def _method_as_given(
    options: Mapping[str, Any], data: Mapping[str, Any], encoder: Mapping[str, Any]
) -> Mapping[str, Any]:
    return options


def _no_taps(options: Any) -> tuple[str, ...]:
    return ()


def _as_given(options: Mapping[str, Any], data: Mapping[str, Any]) -> Mapping[str, Any]:
    return options


@dataclass(frozen=True)
class FusionWeights:
    """Weights of fused streams, as a public project quotes them.

    Attributes:
        name: the project's, as ``stdcl fuse --weights`` takes it.
        quoted: number of streams -> weights of the first so many of joint, bone, joint motion and bone motion.
        exceptions: dataset, or ``dataset/protocol`` -> other weights there.
        by_kind: weights of (positions, motions) instead, for any set of streams.
    """

    name: str
    quoted: Mapping[int, tuple[float, ...]] = field(default_factory=dict)
    exceptions: Mapping[str, Mapping[int, tuple[float, ...]]] = field(default_factory=dict)
    by_kind: tuple[float, float] | None = None


@dataclass(frozen=True)
class PublishedInput:
    """What the public code that trained a checkpoint gave its network.

    Attributes:
        settings: keys of a configuration, ``section.key``, that repeat it.
        notes: what they do not repeat, a sentence each.
    """

    settings: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


PublishedInputs = Callable[[str, str, Mapping[str, tuple[int, ...]]], PublishedInput]
"""(dataset, stream, public parameter name -> shape) -> the input; ``UserError`` for a stream that the code lacks."""


def _recipes_input(dataset: str, stream: str, shapes: Mapping[str, tuple[int, ...]]) -> PublishedInput:
    return PublishedInput()


@dataclass(frozen=True)
class EncoderSpec:
    """An encoder.

    Attributes:
        name: its name in a configuration.
        title: its name for people.
        options: the model of its section ``encoder``; its first field is ``name``.
        build: import path of a callable that takes a layout and the options by keyword and returns the encoder.
        convention: how its streams are derived where the configuration says ``auto``.
        settle: replaces ``auto`` in its section.
        feature_options: options that change the feature map alone, which only a method reads.
        paper_name: its name in the paper's Table 4(d); empty where it has none.
        published: how the names of its parameters become those of public checkpoints; empty where there are none.
        unpublished: parameters that no public checkpoint holds.
        adjacency: import path of the function of a skeleton that gives the constant adjacency in public checkpoints.
        published_input: what public checkpoints were trained on, beside what the recipes say.
        recipes: ``package:folder`` of its recipes; empty where it has none.
        fusion: the weights that its public code fuses streams with.
    """

    name: str
    title: str
    options: type[BaseModel]
    build: str
    convention: Literal["plain", "centred"] = "plain"
    settle: Settle = _as_given
    feature_options: tuple[str, ...] = ()
    paper_name: str = ""
    published: Renaming = ()
    unpublished: frozenset[str] = frozenset()
    adjacency: str = "stdcl.skeleton:spatial_partition"
    published_input: PublishedInputs = _recipes_input
    recipes: str = ""
    fusion: FusionWeights | None = None


@dataclass(frozen=True)
class SplitSpec:
    """An official protocol: training and test sequences by the values of one column.

    Attributes:
        column: ``subject``, ``view`` or ``setup``.
        train: the values that train.
        test: the values that test; None: all others.
        num_train: training sequences of the complete dataset.
        num_test: test sequences of the complete dataset.
    """

    column: str
    train: frozenset[int]
    test: frozenset[int] | None
    num_train: int
    num_test: int


@dataclass(frozen=True)
class DatasetSpec:
    """A dataset.

    Attributes:
        name: its name in a configuration and in the manifest of its store.
        title: its name for people.
        prepare: import path of the function that makes its store, see ``stdcl.data.prepare.Prepare``.
        prepare_options: keyword arguments of that function beyond those that every dataset has.
        synthesise: import path of the function that writes synthetic raw files, see ``stdcl.data.synthetic``; empty
            where there is none.
        clip_suffixes: suffixes of raw files that hold clips which can be read one by one.
        read_clips: import path of the function that reads such a file, see ``stdcl.data.clips``.
        export: import path of the function that writes a store in this format, see ``stdcl.data.export``; empty where
            there is none.
        protocols: official protocols by name, the default first; empty where each store names its own.
        frames: T where the configuration says ``auto``.
        loader: how clips become inputs, see ``stdcl.data.dataset``.
        skeleton: the joint tree; None where each store has its own, as for the two below.
        num_persons: M.
        classes: names of the classes.
        absent_person: what fills the persons that a clip lacks.
        recipe: prefix of its recipes' names; with several protocols the protocol's name follows (``ntu60-xsub``).
        recipe_family: name of recipes that it shares with other datasets, taken where it has none of its own.
    """

    name: str
    title: str
    prepare: str
    prepare_options: tuple[str, ...] = ()
    synthesise: str = ""
    export: str = ""
    clip_suffixes: tuple[str, ...] = ()
    read_clips: str = ""
    protocols: Mapping[str, SplitSpec] = field(default_factory=dict)
    frames: int = 64
    loader: Literal["pick", "resample"] = "resample"
    skeleton: Skeleton | None = None
    num_persons: int | None = None
    classes: tuple[str, ...] = ()
    absent_person: Literal["zeros", "copy"] = "zeros"
    recipe: str = ""
    recipe_family: str = ""

    @property
    def default_protocol(self) -> str:
        """The protocol that ``default`` names; ``default`` itself where each store names its own."""
        return next(iter(self.protocols), "default")

    @property
    def describes_itself(self) -> bool:
        """Whether name, skeleton, classes and protocols are each store's own, and not the dataset's."""
        return not self.protocols

    def recipe_names(self, protocol: str) -> tuple[str, ...]:
        """Return the names that a protocol's recipe can have, the first that exists being taken."""
        own = self.recipe
        if len(self.protocols) > 1:
            known = protocol if protocol in self.protocols else self.default_protocol
            own = f"{own}-{known.replace('-', '')}"
        return tuple(name for name in (own, self.recipe_family) if name)


@dataclass(frozen=True)
class MethodSpec:
    """A training method: loss terms beside cross-entropy.

    Attributes:
        name: its name; also that of a sweep's arm that is trained with it.
        title: its name for people.
        options: the model of its section; of ``method``, its first field is ``name``.
        build: import path of a callable ``(options, task, shapes)`` that returns a ``stdcl.methods.base.Method``.
        section: the configuration's section that holds its options.
        taps: options -> the encoder outputs that it reads beside the standard ones.
        settle: fills what is left out of its section and depends on data and encoder.
        unscientific: options (dotted, of its section) that cannot change a result.
        presets: ``package:folder`` of what ``preset: release`` sets in all sections, one file per dataset as for
            recipes; empty where it sets nothing outside its own section.
        fusion: the weights that its public code fuses streams with.
    """

    name: str
    title: str
    options: type[BaseModel]
    build: str
    section: str = "method"
    taps: Callable[[Any], tuple[str, ...]] = _no_taps
    settle: SettleMethod = _method_as_given
    unscientific: tuple[str, ...] = ("preset",)
    presets: str = ""
    fusion: FusionWeights | None = None


@dataclass(frozen=True)
class MetricSpec:
    """A number that an evaluation gives beside accuracy.

    Attributes:
        name: its name in rows (after ``metric/``) and on the command line.
        title: its name for people, as a table's header.
        compute: (N, K) logits and (N,) labels -> the number, the same on every rank. It sees every evaluated sequence
            once.
        percent: whether it is a share, shown in percent.
    """

    name: str
    title: str
    compute: Callable[[NDArray[Any], NDArray[Any]], float]
    percent: bool = True


# ---- finding them ------------------------------------------------------------------------------------------------


class _Named(Protocol):
    @property
    def name(self) -> str: ...


Spec = TypeVar("Spec", bound=_Named)


class Known(Mapping[str, Spec], Generic[Spec]):
    """Records by name. Looking an import path up adds its record, so that its options are keys like all others.

    Attributes:
        broken: entry points that offer nothing usable: name -> why.
    """

    def __init__(self, found: dict[str, Spec], broken: dict[str, str], follow: Callable[[str], Spec]) -> None:
        self._found = found
        self._follow = follow
        self.broken = broken

    def __getitem__(self, name: str) -> Spec:
        if name not in self._found and is_import_path(name):
            self._found[name] = self._follow(name)
        return self._found[name]

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._found))

    def __len__(self) -> int:
        return len(self._found)


@cache
def encoders() -> Known[EncoderSpec]:
    """Return every encoder by name."""
    found = _found("stdcl.encoders", "stdcl.encoders", EncoderSpec)
    return Known(*found, lambda path: _plugged(path, "encoder", EncoderSpec))


@cache
def datasets() -> Known[DatasetSpec]:
    """Return every dataset by name."""
    return Known(*_found("stdcl.data", "stdcl.datasets", DatasetSpec), _plugged_dataset)


@cache
def methods() -> Known[MethodSpec]:
    """Return every method by name."""
    found = _found("stdcl.methods", "stdcl.methods", MethodSpec)
    return Known(*found, lambda path: _plugged(path, "method", MethodSpec))


@cache
def metrics() -> Known[MetricSpec]:
    """Return every metric by name."""
    return Known(*_found("stdcl.metrics", "stdcl.metrics", MetricSpec, modules=True), _plugged_metric)


def passed_over() -> list[str]:
    """Return a sentence for each broken entry point that was met by now."""
    kinds: tuple[Any, ...] = (encoders, datasets, methods, metrics)
    return [why for find in kinds if find.cache_info().currsize for why in find().broken.values()]


def is_import_path(name: object) -> bool:
    """Whether a name is an import path, ``package.module:name``."""
    return isinstance(name, str) and ":" in name


def encoder(name: str) -> EncoderSpec:
    """Return the encoder of that name, or raise ``UserError`` with the names that there are."""
    return _one("encoder", name, encoders())


def dataset(name: str) -> DatasetSpec:
    """Return the dataset of that name, or raise ``UserError`` with the names that there are."""
    return _one("dataset", name, datasets())


def method(name: str) -> MethodSpec:
    """Return the method of that name, or raise ``UserError`` with the names that there are."""
    return _one("method", name, methods())


def metric(name: str) -> MetricSpec:
    """Return the metric of that name, or raise ``UserError`` with the names that there are."""
    return _one("metric", name, metrics())


def load(path: str) -> Any:
    """Return what an import path ``package.module:name`` leads to."""
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)


Kind = TypeVar("Kind", EncoderSpec, MethodSpec)


def _plugged(path: str, key: str, kind: type[Kind]) -> Kind:
    """Return the record that an import path in ``<key>.name`` leads to, with the path as its name.

    Raises:
        UserError: the import fails, or it leads to something else.
    """
    from pydantic import BaseModel, create_model

    where = f"{key}.name: {path}"
    offered = _imported(path, where)
    options = getattr(offered, "options", None)
    if not (isinstance(options, type) and issubclass(options, BaseModel) and "name" in options.model_fields):
        raise UserError(
            f"{where}: its attribute 'options' must be the model of its section, a subclass of "
            f"stdcl.config.section.{key.title()}Options"
        )
    if not isinstance(offered, kind):
        if not isinstance(offered, type):
            raise UserError(f"{where}: a class or a {kind.__name__} is expected, found a {type(offered).__name__}")
        offered = kind(name=path, title=offered.__name__, options=options, build=path)
    exactly: Any = Literal
    narrowed: Any = {"name": (exactly[path], ...)}
    model = create_model(options.__name__, __base__=options, __module__=options.__module__, **narrowed)
    return replace(offered, name=path, options=model)


def _plugged_dataset(path: str) -> DatasetSpec:
    """Return the record that an import path in ``data.dataset`` leads to, with the path as its name.

    Raises:
        UserError: the import fails, or it leads to something else.
    """
    where = f"data.dataset: {path}"
    offered = _imported(path, where)
    if not isinstance(offered, DatasetSpec):
        raise UserError(f"{where}: a DatasetSpec is expected, found a {type(offered).__name__}")
    return replace(offered, name=path)


def _plugged_metric(path: str) -> MetricSpec:
    """Return the record that an import path leads to, with the path as its name."""
    offered = _imported(path, f"metric: {path}")
    if not isinstance(offered, MetricSpec):
        raise UserError(f"metric: {path}: a MetricSpec is expected, found a {type(offered).__name__}")
    return replace(offered, name=path)


def _imported(path: str, where: str) -> Any:
    try:
        return load(path)
    except Exception as error:  # whatever a module of somebody else raises when it is imported
        raise UserError(
            f"{where}: cannot be imported: {type(error).__name__}: {error}; it must be package.module:name of what is "
            "installed, or lies on PYTHONPATH"
        ) from error


def code_digest(spec: EncoderSpec | DatasetSpec | MethodSpec) -> str:
    """Return 16 hexadecimal digits of all files of a plug-in's packages; empty for what is part of this package."""
    if isinstance(spec, DatasetSpec):
        modules = {path.partition(":")[0] for path in (spec.prepare, spec.name) if is_import_path(path)}
    else:
        modules = {spec.options.__module__, spec.build.partition(":")[0]}
    roots = {module.partition(".")[0] for module in modules} - {__name__.partition(".")[0]}
    return _digest_of(tuple(sorted(roots))) if roots else ""


@cache
def _digest_of(packages: tuple[str, ...]) -> str:
    digest = hashlib.sha256()
    for package in packages:
        found = importlib.util.find_spec(package)
        folders = [Path(each) for each in (found.submodule_search_locations or ())] if found else []
        files = [(path.relative_to(folder).as_posix(), path) for folder in folders for path in folder.rglob("*.*")]
        if found is not None and not folders and found.origin:
            files = [(Path(found.origin).name, Path(found.origin))]
        for name, path in sorted(files):
            if path.suffix in (".py", ".yaml", ".c", ".h"):
                digest.update(f"{package}/{name}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def _one(kind: str, name: str, known: Known[Spec]) -> Spec:
    if name not in known:
        if name in known.broken:
            raise UserError(f"{kind} '{name}': {known.broken[name]}")
        raise UserError(f"unknown {kind} '{name}'{nearest(name, known)}; allowed: {', '.join(known)}")
    return known[name]


def _found(
    package: str, group: str, kind: type[Spec], *, modules: bool = False
) -> tuple[dict[str, Spec], dict[str, str]]:
    """Return the records of the sub-packages of ``package`` and of the entry points of ``group`` by name, and why
    entry points were passed over. With ``modules``, the records of its modules too."""
    found: dict[str, Spec] = {}
    places: dict[str, str] = {}
    broken: dict[str, str] = {}
    home = importlib.import_module(package)
    for info in pkgutil.iter_modules(home.__path__, f"{package}."):
        if info.ispkg or modules:
            for spec in getattr(importlib.import_module(info.name), "SPECS", ()):
                if isinstance(spec, kind):
                    if spec.name in found:
                        raise UserError(f"{info.name}: the name '{spec.name}' is taken by {places[spec.name]}")
                    found[spec.name], places[spec.name] = spec, info.name
    for point in entry_points(group=group):
        where = f"entry point {point.name} = {point.value} of {point.dist.name if point.dist else 'a package'}"
        try:
            offered = point.load()
        except Exception as error:  # whatever a package of somebody else raises when it is imported
            broken[point.name] = f"{where}: cannot be loaded: {type(error).__name__}: {error}"
            continue
        for spec in offered if isinstance(offered, tuple | list) else (offered,):
            if not isinstance(spec, kind):
                broken[point.name] = f"{where}: gives a {type(spec).__name__}; a {kind.__name__} is expected"
            elif spec.name in found:
                broken[point.name] = f"{where}: the name '{spec.name}' is taken by {places[spec.name]}"
            else:
                found[spec.name], places[spec.name] = spec, where
    return found, broken
