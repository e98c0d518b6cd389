"""What each node of a cluster has, asked by one Ray task a node, and what of it keeps a training from running there."""

from __future__ import annotations

import platform
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from stdcl.errors import UserError
from stdcl.version import code_version

ANSWER_SECONDS = 60.0
"""How long a node is given to answer: it starts a process first."""

SHARED = (
    "every machine needs the same POSIX folder under the same path: NFS 4 or Lustre; in clouds EFS, Filestore, FSx or "
    "Azure Files (NFS), not S3"
)

CHECKED = "node(s) checked"
"""What a driver says once every node has passed."""

_MUST_AGREE = ("stdcl", "ray")
_CAN_DIFFER = ("python", "torch")
_DRIVER = "driver"


@dataclass(frozen=True)
class Facts:
    """What was found on a node.

    Attributes:
        versions: of Python, of the packages that a training needs, and of this package's code.
        storage: why the storage cannot be used; empty where it can, or was not asked for.
        data: content hash of the store at each path that was asked for, or why there is none.
        cards: the names of its NVIDIA cards, as the kernel's driver lists them.
    """

    versions: Mapping[str, str]
    storage: str = ""
    data: Mapping[str, str] = field(default_factory=dict)
    cards: tuple[str, ...] = ()


@dataclass(frozen=True)
class Node:
    """A node as Ray lists it, and what it answered.

    Attributes:
        name: address and host name.
        resources: by Ray's names.
        facts: its answer; None where there was none.
        error: why there was none.
    """

    name: str
    resources: Mapping[str, float]
    facts: Facts | None = None
    error: str = ""


def versions() -> dict[str, str]:
    """Return the versions of this process."""
    found = {"stdcl": code_version(), "python": platform.python_version()}
    for package in ("ray", "torch"):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "missing"
    return found


def look_here(mark: tuple[str, str, str] | None, paths: Sequence[str]) -> Facts:
    """Look at this machine; runs on each node.

    Args:
        mark: folder in the storage, its secret, and the name of the file to leave there; None to leave storage alone.
        paths: of prepared data.
    """
    return Facts(
        versions(),
        _storage(*mark) if mark else "",
        {path: _content_hash(path) for path in paths},
        cards_of_the_driver(),
    )


def _storage(folder: str, secret: str, name: str) -> str:
    place = Path(folder)
    try:
        seen = (place / _DRIVER).read_text(encoding="utf-8")
    except OSError as error:
        return f"{place.parent} is not the driver's folder here ({error.strerror}): {SHARED}"
    if seen != secret:
        return f"{place.parent} is another folder here: {SHARED}"
    try:
        (place / name).write_text(secret, encoding="utf-8")
    except OSError as error:
        return f"{place.parent} cannot be written to ({error.strerror})"
    return ""


def _content_hash(path: str) -> str:
    from stdcl.data.store import read_manifest

    try:
        return read_manifest(Path(path)).content_hash
    except UserError as error:
        return str(error)


def cards_of_the_driver(root: Path = Path("/proc/driver/nvidia/gpus")) -> tuple[str, ...]:
    """Return the names of this machine's NVIDIA cards, as the kernel's driver lists them."""
    found = []
    for path in sorted(root.glob("*/information")):
        model = re.search(r"^Model:\s*(.+?)\s*$", path.read_text(encoding="utf-8", errors="replace"), re.MULTILINE)
        found.append(model[1] if model else "unknown")
    return tuple(found)


def survey(storage: Path | None, paths: Sequence[str] = (), seconds: float = ANSWER_SECONDS) -> list[Node]:
    """Ask every node of the cluster that this process is connected to.

    Args:
        storage: the folder of all results, in which each node leaves a mark for the time of the survey; None to leave
            it alone.
        paths: absolute, of prepared data.
        seconds: what the nodes are given to answer, together.

    Raises:
        UserError: the storage cannot be written to on this machine.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    alive = [node for node in ray.nodes() if node["Alive"]]
    with _marked(storage) as mark:
        task = ray.remote(num_cpus=0, max_retries=0)(look_here)
        asked = {
            task.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)).remote(
                (*mark, node["NodeID"]) if mark else None, list(paths)
            ): node
            for node in alive
        }
        ray.wait(list(asked), num_returns=len(asked), timeout=seconds)
        return [_answer(reference, node, mark, seconds) for reference, node in asked.items()]


@contextmanager
def _marked(storage: Path | None) -> Iterator[tuple[str, str] | None]:
    if storage is None:
        yield None
        return
    folder, secret = storage / f".nodes-{secrets.token_hex(4)}", secrets.token_hex(16)
    try:
        folder.mkdir(parents=True)
        (folder / _DRIVER).write_text(secret, encoding="utf-8")
    except OSError as error:
        raise UserError(f"{storage}: cannot be written to ({error.strerror}); set STDCL_STORAGE") from None
    try:
        yield str(folder), secret
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _answer(reference: Any, node: Mapping[str, Any], mark: tuple[str, str] | None, seconds: float) -> Node:
    import ray

    name = node_name(node)
    resources = {str(key): float(value) for key, value in node["Resources"].items()}
    try:
        facts: Facts = ray.get(reference, timeout=0)
    except ray.exceptions.GetTimeoutError:
        return Node(name, resources, None, f"did not answer within {seconds:g} s")
    except ray.exceptions.RayError as error:
        return Node(name, resources, None, _why(str(error)))
    if mark and not facts.storage:
        # By its name, which nobody asked for before: NFS keeps lists of folders for up to a minute.
        try:
            same = Path(mark[0], node["NodeID"]).read_text(encoding="utf-8") == mark[1]
        except OSError:
            same = False
        if not same:
            folder = Path(mark[0]).parent
            facts = Facts(facts.versions, f"what it writes to {folder} is not seen here: {SHARED}", facts.data)
    return Node(name, resources, facts)


def _why(text: str) -> str:
    if "No module named 'stdcl" in text:
        return "stdcl is not installed there, or an older version of it"
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "no reason given"


def node_name(node: Mapping[str, Any]) -> str:
    """Return ``10.0.0.2 (two)`` of one of Ray's nodes."""
    address, host = node.get("NodeManagerAddress", ""), node.get("NodeManagerHostname", "")
    return f"{address} ({host})" if host and host != address else str(address)


def faults(nodes: Sequence[Node], own: Mapping[str, str], data: Mapping[str, str]) -> list[str]:
    """Return a line for everything that keeps trainings from running on a node.

    Args:
        nodes: their answers.
        own: versions of this process.
        data: the content hash, here, of each path that was asked for.
    """
    return [line for node in nodes for line in _faults(node, own, data)]


def _faults(node: Node, own: Mapping[str, str], data: Mapping[str, str]) -> Iterator[str]:
    if node.facts is None:
        yield f"{node.name}: {node.error}"
        return
    found = node.facts
    for what in _MUST_AGREE:
        if found.versions.get(what) != own[what]:
            yield f"{node.name}: {what} {found.versions.get(what)}, but {own[what]} here"
    if found.versions["python"].rpartition(".")[0] != own["python"].rpartition(".")[0]:
        yield f"{node.name}: Python {found.versions['python']}, but {own['python']} here"
    if found.storage:
        yield f"{node.name}: STDCL_STORAGE: {found.storage}"
    if not node.resources.get("CPU"):
        return  # a head that only coordinates reads no data
    for path, wanted in data.items():
        have = found.data.get(path)
        if have != wanted:
            other = re.fullmatch("[0-9a-f]{64}", have or "")
            said = f"{path} holds other data ({have[:12]}, but {wanted[:12]} here)" if other and have else have
            yield f"{node.name}: {said}; copy the store there, or keep it in the shared folder"


def notes(nodes: Sequence[Node], own: Mapping[str, str]) -> list[str]:
    """Return a line for every difference that trainings can live with."""
    lines = []
    for node in nodes:
        if node.facts is None:
            continue
        found = node.facts
        lines += [
            f"{node.name}: {what} {found.versions.get(what)}, but {own[what]} here: last digits may differ"
            for what in _CAN_DIFFER
            if found.versions.get(what) != own[what]
        ]
        declared = int(node.resources.get("GPU", 0))
        if declared > len(found.cards):
            lines.append(
                f"{node.name}: Ray counts {declared} GPU(s), the NVIDIA driver lists {len(found.cards)}: a trial that "
                "gets one that is not there ends with an error"
            )
    return lines


def describe(node: Node) -> str:
    """Return what a node has, in words."""
    if node.facts is None:
        return f"{node.name}: {node.error}"
    parts = [f"{what} {version}" for what, version in node.facts.versions.items()]
    amounts = [f"{node.resources.get(name, 0.0):g} {name}" for name in ("CPU", "GPU")]
    cards = f" ({', '.join(sorted(set(node.facts.cards)))})" if node.facts.cards else ""
    return f"{node.name}: {', '.join(amounts)}{cards}; {', '.join(parts)}"


def check_nodes(storage: Path, data: Mapping[str, str]) -> list[str]:
    """Check every node of the cluster before a training starts; return what is worth knowing.

    Args:
        storage: the folder of all results.
        data: content hash, here, of each store that trainings read, by absolute path.

    Raises:
        UserError: a node cannot train; a line for each fault.
    """
    if "working_dir_files" in storage.parts:
        raise UserError(
            f"{storage}: results would be in the job's uploaded copy, which Ray removes. Set STDCL_STORAGE in the "
            "environment of the head's 'ray start'"
        )
    nodes, own = survey(storage, list(data)), versions()
    if found := faults(nodes, own, data):
        lines = "\n".join(f"  {line}" for line in found)
        raise UserError(f"not started: {len(found)} fault(s) on the nodes of this cluster\n{lines}")
    stores = f", {len(data)} prepared dataset(s) equal" if data else ""
    return [f"{len(nodes)} {CHECKED}: versions, storage{stores}", *notes(nodes, own)]
