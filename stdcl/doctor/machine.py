"""What this machine has and lacks for training and sweeps, as short findings."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Literal

from stdcl.config.paths import data_root, expand, storage_path, variable
from stdcl.data.pool import available_cores
from stdcl.data.store import MANIFEST_FILE, read_manifest
from stdcl.doctor.finding import Finding
from stdcl.errors import UserError
from stdcl.launch.cluster import looking_at
from stdcl.launch.nodes import describe, faults, notes, survey, versions
from stdcl.launch.scratch import check_scratch
from stdcl.version import code_version

PACKAGES = ("torch", "ray", "optuna", "pyarrow", "pandas", "wandb", "pydantic", "matplotlib")
_LOW_DISK_GIB = 5.0


def examine() -> list[Finding]:
    """Look at packages, devices, memory, disk, cluster settings, W&B and data."""
    return [*versions_here(), *devices_here(), *_memory(), *_storage(), *_data(), *_cluster(), *_wandb()]


def versions_here() -> Iterator[Finding]:
    """Yield what is installed."""
    yield Finding("stdcl", "ok", code_version())
    yield Finding("python", "ok", f"{platform.python_version()} on {platform.system()} {platform.machine()}")
    for name in PACKAGES:
        try:
            yield Finding(name, "ok", importlib.metadata.version(name))
        except importlib.metadata.PackageNotFoundError:
            yield Finding(name, "bad", "not installed; pip install stdcl installs it")
    # Without the dashboard package Ray cannot tell which placement groups are left over, and sweeps stall.
    for module in ("aiohttp", "opencensus"):
        if importlib.util.find_spec(module) is None:
            yield Finding("ray[default]", "bad", f"{module} is missing; install ray[default,tune,train]")


def devices_here() -> Iterator[Finding]:
    """Yield the processors of this machine."""
    import torch

    from stdcl.kernels import batch_norm, graph_product
    from stdcl.kernels.choice import SWITCH, switched_on

    yield Finding("cpu", "ok", f"{available_cores()} cores, {torch.get_num_threads()} torch threads")
    if not switched_on():
        yield Finding("C kernels", "note", f"off ({SWITCH}=0)")
    elif batch_norm.built():
        text = "built" if graph_product.usable() else "built; those for AVX-512 do not run on this processor"
        yield Finding("C kernels", "ok", text)
    else:
        text = "not built (no C compiler at installation); everything works, but a training step on a CPU takes longer"
        yield Finding("C kernels", "note", text)
    if not torch.cuda.is_available():
        yield Finding("gpu", "note", "none visible; training runs on CPU over gloo (use recipe: lite)")
        return
    for index in range(torch.cuda.device_count()):
        facts = torch.cuda.get_device_properties(index)
        yield Finding("gpu", "ok", f"{index}: {facts.name}, {facts.total_memory / 2**30:.0f} GiB")
    if not torch.distributed.is_nccl_available():
        yield Finding("nccl", "bad", "this torch build has no NCCL; several GPUs cannot work together")


def _memory() -> Iterator[Finding]:
    import psutil

    memory = psutil.virtual_memory()
    state: Literal["ok", "note"] = "ok" if memory.available > 4 * 2**30 else "note"
    yield Finding("memory", state, f"{memory.available / 2**30:.1f} of {memory.total / 2**30:.1f} GiB free")
    shared = Path("/dev/shm")
    if shared.is_dir():
        free = shutil.disk_usage(shared).free / 2**30
        yield Finding("shared memory", "ok" if free > 1 else "note", f"{free:.1f} GiB free in /dev/shm")


def _storage() -> Iterator[Finding]:
    try:
        folder = storage_path()
    except UserError as error:
        yield Finding("storage", "bad", str(error))
        return
    existing = next(p for p in (folder, *folder.parents) if p.exists())
    if not os.access(existing, os.W_OK):
        yield Finding("storage", "bad", f"{folder}: not writable; set STDCL_STORAGE")
        return
    free = shutil.disk_usage(existing).free / 2**30
    text = f"{folder}: {free:.0f} GiB free"
    yield Finding("storage", "ok" if free > _LOW_DISK_GIB else "note", text)
    if variable("STDCL_STORAGE") is None:
        yield Finding("storage", "note", "STDCL_STORAGE is not set; on a cluster it must name a folder all nodes see")


def _data() -> Iterator[Finding]:
    try:
        root = data_root()
    except UserError as error:
        yield Finding("data", "bad", str(error))
        return
    found = [p.parent for p in sorted(root.glob(f"*/{MANIFEST_FILE}"))]
    if not found:
        yield Finding("data", "note", f"no prepared store under {root.absolute()}; see `stdcl data prepare --help`")
    for folder in found:
        try:
            manifest = read_manifest(folder)
        except UserError as error:
            yield Finding("data", "bad", str(error))
        else:
            text = f"{folder}: {manifest.dataset}, {manifest.num_sequences:,} sequences"
            yield Finding("data", "ok", text)


def _cluster() -> Iterator[Finding]:
    address = variable("RAY_ADDRESS")
    if address:
        try:
            with looking_at(address) as cluster:
                yield Finding("cluster", "ok", f"RAY_ADDRESS={address} answers: {cluster.describe()}")
                yield from _nodes()
        except UserError as error:
            yield Finding("cluster", "bad", str(error))
    else:
        yield Finding("cluster", "note", "RAY_ADDRESS is not set; sweeps start a local Ray unless run as a job")
        try:
            check_scratch()
        except UserError as error:
            yield Finding("cluster", "bad", str(error))
    try:
        token = expand("~/.ray/auth_token", "Ray's token")
    except UserError as error:
        yield Finding("cluster", "note", str(error))
        return
    if token.exists() and os.environ.get("RAY_AUTH_MODE") != "token":
        text = f"{token} exists but RAY_AUTH_MODE is not 'token': joining a cluster that asks for it will fail"
        yield Finding("cluster", "note", text)


def _nodes() -> Iterator[Finding]:
    """Every node of the cluster, measured by this machine."""
    storage, root = storage_path(), data_root()
    hashes = {}
    for manifest in sorted(root.glob(f"*/{MANIFEST_FILE}")):
        with suppress(UserError):  # said under "data"
            hashes[str(manifest.parent.absolute())] = read_manifest(manifest.parent).content_hash
    answers, own = survey(storage if storage.is_dir() else None, list(hashes)), versions()
    for node in answers:
        bad = faults([node], own, hashes)
        yield from (Finding("node", "bad", line) for line in bad)
        if not bad:
            yield Finding("node", "ok", describe(node))
        yield from (Finding("node", "note", line) for line in notes([node], own))


def _wandb() -> Iterator[Finding]:
    from stdcl.tracking.wandb_settings import has_account

    if has_account():
        yield Finding("wandb account", "ok", "found; runs are sent online (tracking.wandb: auto)")
    else:
        yield Finding(
            "wandb account", "note", "none; runs are kept offline under each run folder (wandb sync sends them)"
        )
