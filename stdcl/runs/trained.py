"""A run's encoder with the weights of a checkpoint, for what is done after training."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from stdcl import specs
from stdcl.config import RunConfig, paths
from stdcl.data.store import MANIFEST_FILE, Manifest, read_manifest
from stdcl.encoders.base import Encoder, Layout
from stdcl.errors import UserError
from stdcl.results.layout import Which
from stdcl.runs.evaluate import check_data, find_checkpoint, read_config
from stdcl.training.components import new_encoder


@dataclass(frozen=True)
class Trained:
    """An encoder that was trained, and what it takes.

    Attributes:
        encoder: with its weights, float32, on the CPU.
        config: the run's.
        manifest: what the run's store says of itself.
        checkpoint: name of the checkpoint.
    """

    encoder: Encoder
    config: RunConfig
    manifest: Manifest
    checkpoint: str


def trained(run: Path, which: Which, data_path: Path | None) -> Trained:
    """Return a run's encoder.

    Args:
        run: the run's folder.
        which: the last epoch's checkpoint, or the best one's.
        data_path: where the run's prepared store lies now, if it moved; its manifest alone is read.

    Raises:
        UserError: no checkpoint, no manifest, or that of other data.
    """
    folder, state = find_checkpoint(run, which)
    config = read_config(folder, state)
    manifest = _manifest(folder, config, data_path)
    layout = Layout(
        num_joints=manifest.skeleton.num_joints,
        num_persons=manifest.max_persons,
        num_frames=config.data.frames,
        num_classes=len(manifest.classes),
        skeleton=manifest.skeleton,
    )
    encoder = new_encoder(config, layout)
    prefix = "encoder."
    encoder.load_state_dict({k.removeprefix(prefix): v for k, v in state["model"].items() if k.startswith(prefix)})
    return Trained(encoder, config, manifest, folder.name)


def _manifest(folder: Path, config: RunConfig, moved: Path | None) -> Manifest:
    """Return what the run's store says of itself; a benchmark's own where the store is gone."""
    place = paths.data_path(str(moved) if moved is not None else config.data.path)
    spec = specs.dataset(config.data.dataset)
    if moved is not None or (place / MANIFEST_FILE).exists() or spec.skeleton is None or spec.num_persons is None:
        try:
            manifest = read_manifest(place)
        except UserError as error:
            if moved is not None or place.is_dir():
                raise
            raise UserError(f"{error}\nif the store was moved, --data DIR says where it is now") from None
        check_data(folder, manifest.content_hash, place)
        return manifest
    return Manifest(
        dataset=spec.name,
        schema_version=0,
        content_hash="",
        classes=spec.classes,
        skeleton=spec.skeleton,
        max_persons=spec.num_persons,
        absent_person=spec.absent_person,
        num_sequences=0,
        num_frames=0,
        protocols={},
        counts={},
        source={},
        data_bytes=0,
    )
