"""What a store holds, as data and as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stdcl.data.protocols import split
from stdcl.data.store import SequenceStore
from stdcl.errors import UserError, nearest
from stdcl.skeleton import edges


def info(path: Path, *, verify: bool = False) -> dict[str, Any]:
    """Return what a store holds, as plain data for ``stdcl data info --json``.

    Args:
        path: the store.
        verify: also recompute the content hash from the file (reads all of it).

    Raises:
        UserError: no store, or a damaged one.
    """
    store = SequenceStore.open(path)
    if verify:
        store.verify()
    manifest = store.manifest
    frames = store.column("frames")
    persons = store.column("persons")
    longest = int(frames.max())
    joint_bytes = manifest.skeleton.num_joints * 3 * 4
    protocols = {
        name: {
            part: {"sequences": sum(manifest.counts[name][part]), "per_class": list(manifest.counts[name][part])}
            for part in ("train", "test")
        }
        for name in manifest.protocols
    }
    return {
        "path": str(path),
        "dataset": manifest.dataset,
        "schema_version": manifest.schema_version,
        "content_hash": manifest.content_hash,
        "verified": verify,
        "sequences": manifest.num_sequences,
        "classes": list(manifest.classes),
        "per_class": np.bincount(store.labels, minlength=len(manifest.classes)).tolist(),
        "subjects": np.unique(store.column("subject")).tolist(),
        "views": np.unique(store.column("view")).tolist(),
        "setups": np.unique(store.column("setup")).tolist(),
        "skeleton": manifest.skeleton.name,
        "joints": manifest.skeleton.num_joints,
        "persons": {str(n): int((persons == n).sum()) for n in np.unique(persons)},
        "frames": {
            "total": manifest.num_frames,
            "shortest": int(frames.min()),
            "median": float(np.median(frames)),
            "longest": longest,
        },
        "missing_joints": manifest.missing_joints,
        "bytes": manifest.data_bytes,
        "values_bytes": int((frames * persons).sum()) * joint_bytes,
        "padded_bytes": manifest.num_sequences * longest * manifest.max_persons * joint_bytes,
        "protocols": protocols,
        "source": dict(manifest.source),
    }


def test_sequences(path: Path, protocol: str) -> tuple[int, ...] | int:
    """Return a protocol's test sequences of each person, by number; of all where the data name no people.

    ``default`` is the store's first protocol.

    Raises:
        UserError: no store, a damaged one, or no such protocol.
    """
    store = SequenceStore.open(path)
    chosen = next(iter(store.rules)) if protocol == "default" else protocol
    rows = split(store, store.rules, chosen, store.manifest.dataset).test
    people = store.column("subject")[rows]
    return tuple(np.unique(people, return_counts=True)[1].tolist()) if people.any() else len(rows)


class Shown(NamedTuple):
    """A sequence of a store, to be looked at.

    Attributes:
        title: id, class, length, persons.
        values: (F, M, V, 3) as stored.
        bones: (child, parent) pairs of joints.
        down: whether the second coordinate points down (images).
    """

    title: str
    values: NDArray[np.float32]
    bones: tuple[tuple[int, int], ...]
    down: bool


def shown(path: Path, name: str) -> Shown:
    """Return a sequence of a store by its id.

    Raises:
        UserError: no store, or no such sequence.
    """
    store = SequenceStore.open(path)
    if name not in store.ids:
        raise UserError(f"{path}: no sequence '{name}'{nearest(name, store.ids)}; for example: {store.ids[0]}")
    row = store.ids.index(name)
    manifest = store.manifest
    values = store.sequence(row)
    frames, persons = values.shape[:2]
    title = (
        f"{name}: {manifest.classes[int(store.labels[row])]} ({frames} frames, {persons} person{'s' * (persons > 1)})"
    )
    flat = manifest.third == "score" or manifest.source.get("dimensions") == 2
    return Shown(title, values, edges(manifest.skeleton.parents), bool(flat))


def render_info(value: Mapping[str, Any]) -> str:
    """Return :func:`info` as text."""
    frames = value["frames"]
    size, padded = value["bytes"], value["padded_bytes"]
    lines = [
        f"{value['path']}",
        f"  dataset        {value['dataset']} ({value['sequences']:,} sequences, {len(value['classes'])} classes)",
        f"  content hash   {value['content_hash']}" + (" (verified)" if value["verified"] else ""),
        f"  schema         {value['schema_version']}",
        f"  skeleton       {value['skeleton']}, {value['joints']} joints",
        f"  frames         {frames['total']:,} in all; {frames['shortest']} to {frames['longest']} a sequence,"
        f" median {frames['median']:g}",
        "  persons        " + ", ".join(f"{count:,} sequences with {n}" for n, count in value["persons"].items()),
        f"  size           {size / 1e6:,.1f} MB; padded to {frames['longest']} frames it would be"
        f" {padded / 1e6:,.1f} MB ({size / padded:.0%})",
        f"  subjects       {_ranges(value['subjects'])}",
        f"  views          {_ranges(value['views'])}",
    ]
    if value["setups"] != [0]:
        lines.append(f"  setups         {_ranges(value['setups'])}")
    if value["missing_joints"]:
        lines.append(f"  not detected   {value['missing_joints']:,} joints, summed over frames and persons")
    for name, parts in value["protocols"].items():
        said = ", ".join(f"{part} {content['sequences']:,}" for part, content in parts.items())
        lines.append(f"  protocol       {name}: {said}")
    lines += [f"  source         {line}" for line in _source_lines(value["source"])]
    lines.append("")
    lines += _class_table(value)
    return "\n".join(lines)


def _source_lines(source: Mapping[str, Any]) -> list[str]:
    return [
        f"{key}: {len(item)} ({', '.join(map(str, item[:3]))}, ...)"
        if isinstance(item, list) and len(item) > 5
        else f"{key}: {item}"
        for key, item in source.items()
    ]


def _ranges(numbers: Sequence[int]) -> str:
    """Return 1, 2, 3, 7 as ``1-3, 7``."""
    spans: list[list[int]] = []
    for number in numbers:
        if spans and number == spans[-1][1] + 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in spans)


def _class_table(value: Mapping[str, Any]) -> list[str]:
    columns = [("all", value["per_class"])]
    for name, parts in value["protocols"].items():
        columns += [(f"{name} {part}", content["per_class"]) for part, content in parts.items()]
    widths = [max(len(title), 5) for title, _ in columns]
    first = max(len("class"), *(len(name) + 5 for name in value["classes"]))
    head = "  " + "class".ljust(first) + "".join(f"  {t:>{w}}" for (t, _), w in zip(columns, widths, strict=True))
    rows = [
        "  "
        + f"{label:>3}  {name}".ljust(first)
        + "".join(f"  {counts[label]:>{w}}" for (_, counts), w in zip(columns, widths, strict=True))
        for label, name in enumerate(value["classes"])
    ]
    return [head, *rows]
