"""The machines that train: a Ray cluster that exists ($RAY_ADDRESS), or one on this machine for as long as we run."""

from __future__ import annotations

import logging
import math
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from stdcl.config import ResourcesConfig
from stdcl.data.pool import available_cores
from stdcl.errors import UserError
from stdcl.launch.address import probe
from stdcl.launch.package import folder_of_package
from stdcl.launch.scratch import VARIABLES, check_scratch

OBJECT_STORE_BYTES = 200 * 2**20
"""Of a cluster on this machine: rows and configurations pass through it, data do not."""

START_ATTEMPTS = 3

HANDED_ON = ("STDCL_", "WANDB_", "NCCL_", "GLOO_", "RAY_TRAIN_")
"""Prefixes of the environment variables that every trial and rank gets from the driver."""


@dataclass(frozen=True)
class Cluster:
    """What the cluster has."""

    address: str
    local: bool
    """Started by us, on this machine, and stopped with us."""
    nodes: tuple[Mapping[str, float], ...]
    """Per node, its resources by name (``CPU``, ``GPU``)."""

    def total(self, name: str) -> float:
        """Return the amount of a resource on all nodes."""
        return sum(node.get(name, 0.0) for node in self.nodes)

    def describe(self) -> str:
        """Return ``2 node(s), 8 CPU, 1 GPU``."""
        return f"{len(self.nodes)} node(s), {self.total('CPU'):g} CPU, {self.total('GPU'):g} GPU"


def environment_to_hand_on(environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the variables that trials and ranks get. They may hold secrets (WANDB_API_KEY).

    An empty variable counts as not set.
    """
    source = os.environ if environment is None else environment
    return {key: value for key, value in source.items() if value and key.startswith(HANDED_ON)}


def per_worker(resources: ResourcesConfig) -> dict[str, float]:
    """Return one worker's demand by Ray's resource names."""
    demand = {"CPU": resources.cpus_per_worker}
    if resources.gpus_per_worker > 0:
        demand["GPU"] = resources.gpus_per_worker
    return demand


def capacity(nodes: Sequence[Mapping[str, float]], resources: ResourcesConfig) -> int:
    """Return how many trainings with ``resources`` fit on ``nodes`` at the same time.

    A training's workers are placed all or none; a worker does not span nodes. The count is exact for PACK and
    SPREAD (any placement will do) and for STRICT_PACK (all of a training's workers on one node); for STRICT_SPREAD
    (each on a node of its own) it is the largest k for which sum_n min(k, slots_n) >= k workers.
    """
    demand = per_worker(resources)
    slots = [min(_slots(name, node.get(name, 0.0), amount) for name, amount in demand.items()) for node in nodes]
    workers = resources.workers
    if resources.placement == "STRICT_PACK":
        return sum(count // workers for count in slots)
    if resources.placement == "STRICT_SPREAD":
        k = 0
        while sum(min(k + 1, count) for count in slots) >= (k + 1) * workers:
            k += 1
        return k
    return sum(slots) // workers


def _slots(name: str, present: float, amount: float) -> int:
    """How many demands of ``amount`` a node meets; a part of a GPU is a part of one GPU."""
    if name == "GPU" and amount < 1:
        return int(present) * int(1 / amount + 1e-9)
    return int(present / amount + 1e-9)


def check_capacity(cluster: Cluster, resources: ResourcesConfig) -> int:
    """Return ``capacity``, or raise UserError if not even one training fits."""
    count = capacity(cluster.nodes, resources)
    if count >= 1:
        return count
    demand = per_worker(resources)
    total = {name: sum(node.get(name, 0.0) for node in cluster.nodes) for name in demand}
    wanted = ", ".join(f"{resources.workers} x {amount:g} {name}" for name, amount in demand.items())
    present = ", ".join(f"{amount:g} {name}" for name, amount in total.items())
    raise UserError(
        f"resources: one training asks for {wanted} (placement {resources.placement}), "
        f"but the cluster at {cluster.address} has {present} on {len(cluster.nodes)} node(s). "
        "Lower resources.workers, resources.cpus_per_worker or resources.gpus_per_worker, or add nodes"
    )


def waiting_for(resources: ResourcesConfig, free: Mapping[str, float], total: Mapping[str, float]) -> str:
    """Return what a training waits for, in words.

    Args:
        resources: of the training.
        free: Ray's resources that nobody holds.
        total: all of them.
    """
    demand = per_worker(resources)
    wanted = ", ".join(f"{resources.workers} x {amount:g} {name}" for name, amount in demand.items())
    present = ", ".join(f"{free.get(name, 0.0):g} of {total.get(name, 0.0):g} {name}" for name in demand)
    return (
        f"waiting for {wanted} (placement {resources.placement}): {present} free on the cluster; nothing is lost, it "
        "starts as soon as there is room"
    )


def waiting_now(resources: ResourcesConfig) -> str:
    """Return ``waiting_for`` of the cluster that this process is connected to."""
    import ray

    return waiting_for(resources, ray.available_resources(), ray.cluster_resources())


def free_now() -> dict[str, float]:
    """Return Ray's resources that nobody holds, of the cluster that this process is connected to."""
    import ray

    return {str(name): float(amount) for name, amount in ray.available_resources().items()}


def oversubscribed(resources: ResourcesConfig) -> str:
    """Return a note if a training on this machine asks for more CPUs than there are; empty if it does not."""
    wanted = resources.workers * resources.cpus_per_worker
    cores = available_cores()
    if os.environ.get("RAY_ADDRESS") or wanted <= cores:
        return ""
    return (
        f"note: resources.workers {resources.workers} x resources.cpus_per_worker {resources.cpus_per_worker:g} are "
        f"more than the {cores} core(s) that this process may use: the workers share them and get slower, not faster"
    )


def prepare_environment(resources: ResourcesConfig) -> None:
    """Set what Ray reads from the environment, where the user has not set it; to be called before Ray is imported."""
    local = not os.environ.get("RAY_ADDRESS")
    defaults = {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        "RAY_CHDIR_TO_TRIAL_DIR": "0",
        "RAY_AIR_NEW_OUTPUT": "0",
        # Both the interval of health checks and that at which reports are fetched: the default delays each by 2 s.
        "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.1" if resources.workers <= 16 else "0.5",
        # A group that waits for places can be stopped, and says so, at this interval.
        "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "15",
        "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
        "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
        "TUNE_DISABLE_SIGINT_HANDLER": "1",
        "TUNE_WARN_THRESHOLD_S": "5",
        # Tune writes the state of all its trials again and again, which nobody reads: no experiment is restored.
        "TUNE_GLOBAL_CHECKPOINT_S": "inf",
    }
    if local:
        # Nobody drains a laptop. On a cluster the watcher moves a training off a node that is about to be taken away.
        defaults["RAY_TRAIN_ENABLE_PREEMPTION_WATCHER"] = "0"
        # Ray's own processes import standard modules with the current folder first on their path: a user's random.py
        # there keeps the dashboard from starting.
        defaults["PYTHONSAFEPATH"] = "1"
    for key, value in defaults.items():
        os.environ.setdefault(key, value)
    for key in VARIABLES:
        if os.environ.get(key) == "":  # counts as not set; Ray would take the current folder
            del os.environ[key]
    if local and "RAY_AUTH_MODE" not in os.environ and "RAY_AUTH_TOKEN_PATH" not in os.environ:
        # Ray protects a new cluster by a token, which it would leave in the home folder, where it changes what later
        # 'ray start' commands do. A token in the environment protects as well and leaves nothing behind.
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))


@contextmanager
def connected(resources: ResourcesConfig) -> Iterator[Cluster]:
    """Connect to $RAY_ADDRESS, or start Ray on this machine; let go of it at the end.

    On this machine Ray counts as many CPUs as this process may use, or as one training asks for if that is more:
    two workers then share one core.

    Raises:
        UserError: if the cluster cannot be reached, or cannot hold one training.
    """
    address = os.environ.get("RAY_ADDRESS")
    if address:
        probe(address)
    else:
        check_scratch()
    prepare_environment(resources)
    import ray

    from stdcl.launch.ray_workarounds import short_messages

    with folder_of_package() as folder:
        if address:
            _connect(address, folder)
        else:
            _start(resources, folder)
        try:
            cluster = _present(local=not address)
            check_capacity(cluster, resources)
            with short_messages():
                yield cluster
        finally:
            ray.shutdown()


@contextmanager
def looking_at(address: str) -> Iterator[Cluster]:
    """Connect to a cluster, whatever it can hold, to ask its nodes something; let go of it at the end.

    Raises:
        UserError: it cannot be reached.
    """
    probe(address)
    prepare_environment(ResourcesConfig())
    import ray

    with folder_of_package() as folder:
        _connect(address, folder)
        try:
            yield _present(local=False)
        finally:
            ray.shutdown()


def _present(*, local: bool) -> Cluster:
    import ray

    alive = [node for node in ray.nodes() if node["Alive"]]
    nodes = tuple({str(k): float(v) for k, v in node["Resources"].items()} for node in alive)
    return Cluster(ray.get_runtime_context().gcs_address, local, nodes)


def _start(resources: ResourcesConfig, path: Path) -> None:
    import ray

    from stdcl.launch.ray_workarounds import PathOfWorkers, came_up_late

    wanted = resources.workers * resources.cpus_per_worker
    for attempt in range(START_ATTEMPTS):
        try:
            ray.init(
                address="local",
                num_cpus=max(available_cores(), math.ceil(wanted)),
                object_store_memory=OBJECT_STORE_BYTES,
                # Ray Train releases the placement group of a stopped trial through the dashboard's state service.
                include_dashboard=resources.workers > 1,
                dashboard_host="127.0.0.1",
                log_to_driver=False,
                logging_level=logging.ERROR,
                job_config=PathOfWorkers(path),
            )
            return
        except Exception as error:
            if not came_up_late(error):
                raise
            ray.shutdown()
            if attempt == START_ATTEMPTS - 1:
                raise UserError(
                    f"Ray did not come up on this machine in {START_ATTEMPTS} attempts ({str(error).splitlines()[0]}). "
                    "The machine may be too busy: try again, or start Ray with 'ray start --head' and set RAY_ADDRESS"
                ) from error


def _connect(address: str, path: Path) -> None:
    import ray
    from ray.exceptions import AuthenticationError

    from stdcl.launch.ray_workarounds import PathOfWorkers, refuses_token

    token = (
        "Its token must be in ~/.ray/auth_token or $RAY_AUTH_TOKEN of this machine, with RAY_AUTH_MODE=token set "
        "before the command"
    )
    try:
        if refuses_token(address):
            raise UserError(f"RAY_ADDRESS={address}: the cluster refuses us: our token is missing or wrong. {token}")
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, job_config=PathOfWorkers(path))
    except AuthenticationError as error:
        said = str(error).splitlines()[0].rstrip(".")
        raise UserError(f"RAY_ADDRESS={address}: the cluster refuses us: {said}. {token}") from error
    except (ConnectionError, TimeoutError, ValueError) as error:
        raise UserError(
            f"RAY_ADDRESS={address}: no Ray cluster answers there ({str(error).splitlines()[0]}). "
            "Start one with 'ray start --head', or unset RAY_ADDRESS to use this machine alone"
        ) from error
    except RuntimeError as error:
        if "Version mismatch" not in str(error):
            raise
        said = " ".join(line.strip() for line in str(error).splitlines())
        raise UserError(f"RAY_ADDRESS={address}: {said}. Install the cluster's versions here, or ours there") from error
