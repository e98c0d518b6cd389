"""Single clips in any raw format that a preparation reads, for a network that is trained already."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol

from stdcl import specs
from stdcl.data.raw_file import check_regular
from stdcl.data.store import Clip, Manifest, Record, SequenceStore, StoreWriter
from stdcl.errors import UserError


class ReadClips(Protocol):
    """What ``DatasetSpec.read_clips`` leads to: reads a raw file as the preparation does, without names and labels."""

    def __call__(self, path: Path, like: Manifest) -> Iterator[Clip]:
        """Yield the clips of ``path``, in the form of the store that ``like`` describes.

        Raises:
            UserError: the file cannot be used.
        """


def read_clips(path: Path, like: Manifest) -> list[Clip]:
    """Read a raw file by its suffix, and check that its clips fit a store.

    Args:
        path: the file.
        like: the store that a network was trained on.

    Raises:
        UserError: an unknown suffix, a file that cannot be used, other bodies, or more persons.
    """
    formats = [spec for spec in specs.datasets().values() if spec.read_clips]
    fitting = [spec for spec in formats if path.suffix in spec.clip_suffixes]
    if not fitting:
        known = sorted({suffix for spec in formats for suffix in spec.clip_suffixes})
        raise UserError(f"{path}: clips are read from {', '.join(known)} files")
    try:
        check_regular(path)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}") from None
    # Where formats share a suffix, the one that the store was made from is tried first.
    fitting.sort(key=lambda spec: spec.name != like.source.get("format"))
    clips = _read(path, like, [specs.load(spec.read_clips) for spec in fitting])
    if not clips:
        raise UserError(f"{path}: there is no clip in it")
    for clip in clips:
        if clip.skeleton != like.skeleton.name or clip.values.shape[2] != like.skeleton.num_joints:
            raise UserError(
                f"{path}: '{clip.name}' is of the skeleton '{clip.skeleton}' ({clip.values.shape[2]} joints); the"
                f" network was trained on '{like.skeleton.name}' ({like.skeleton.num_joints} joints)"
            )
        if clip.values.shape[1] > like.max_persons:
            raise UserError(
                f"{path}: '{clip.name}' has {clip.values.shape[1]} persons; the network takes up to {like.max_persons}"
            )
    return clips


def _read(path: Path, like: Manifest, readers: list[ReadClips]) -> list[Clip]:
    """Read a file by the first reader that can; raise what the first one says where none can."""
    errors = []
    for read in readers:
        try:
            return list(read(path, like))
        except UserError as error:
            errors.append(error)
    raise errors[0]


@contextmanager
def store_of(clips: list[Clip], like: Manifest) -> Iterator[SequenceStore]:
    """Give clips, in their order, as a store that is removed afterwards; labels mean nothing there."""
    with TemporaryDirectory(prefix="stdcl-clips-") as folder:
        out = Path(folder) / "store"
        with StoreWriter(
            out,
            dataset=like.dataset,
            skeleton=like.skeleton,
            classes=like.classes,
            source={},
            max_persons=like.max_persons,
            absent_person=like.absent_person,
            protocols={},
            gaps=True,
            centred=like.centred,
            scale=like.scale,
            third=like.third,
        ) as writer:
            for number, clip in enumerate(clips):
                writer.add(Record(f"{number:09d}", 0, clip.values))
        yield SequenceStore.open(out)
