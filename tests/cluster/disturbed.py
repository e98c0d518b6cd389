"""The real training on a cluster of machines, held at a place or slow, so that a test can take nodes away meanwhile."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from stdcl.results.store import read_attempts
from tests.cluster.conftest import ENVIRONMENT
from tests.cluster.machines import PORT, RAY, Machine, Machines, join, processes, start_ray
from tests.cluster.training import NAME, stdcl, the_run, tiny_sweep, write_sweep
from tests.ray.command import HOLD, INTERVAL, ROOT, assert_as_undisturbed, steps_taken, wait_until

NO_CPUS = ("--num-cpus", "0")
IN_THE_SECOND_EPOCH = {"point": "step", "epoch": 1, "step": 3}
DASHBOARD = "http://127.0.0.1:8265"


class Cluster:
    """A head without CPUs whose state is on disk, nodes of one CPU, and undisturbed trainings to compare with."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.hold = folder, folder / "hold"
        self.hold.mkdir()
        variables = {
            "PYTHONPATH": f"{HOLD}:{ROOT}",
            "HOLD_FOLDER": str(self.hold),
            "STDCL_DATA": str(folder / "data"),
        }
        self._machines = Machines(Path(tempfile.mkdtemp(prefix="stdcl-")), environment={**ENVIRONMENT, **variables})
        self.nodes: list[Machine] = []
        self._undisturbed: dict[int, Path] = {}
        self.head = self._new_head()

    def _new_head(self) -> Machine:
        head = self._machines.up(f"head{len(self._machines.all)}")
        state = {"RAY_gcs_storage": "rocksdb", "RAY_gcs_storage_path": str(self.folder / f"gcs-{head.name}")}
        head.environment = {**head.environment, **state}
        start_ray(head, [], 1, *NO_CPUS)
        return head

    def rebuild(self) -> None:
        """Switch every machine off, and begin a cluster that knows nothing of this one."""
        for machine in (*self.nodes, self.head):
            machine.off()
        self.nodes = []
        self.head = self._new_head()

    def have_nodes(self, count: int) -> None:
        """Let so many nodes be in the cluster."""
        while len(self.nodes) > count:
            self.nodes.pop().off()
        while len(self.nodes) < count:
            self.add()
        wait_until(lambda: sum(node["state"] == "ALIVE" for node in self.listed()) == count + 1, 180, f"{count} nodes")

    def add(self) -> Machine:
        """Let a machine join."""
        machine = self._machines.up(f"node{len(self._machines.all)}")
        join(machine, self.head)
        self.nodes.append(machine)
        return machine

    def lose(self, machine: Machine) -> None:
        """Switch a machine off, with every process on it."""
        self.nodes.remove(machine)
        machine.off()

    def listed(self) -> list[dict[str, Any]]:
        """Ray's own list of nodes."""
        words = ("list", "nodes", "--format", "json", "--address", DASHBOARD)
        text = self.head.run(*RAY, *words, check=False).stdout
        found: list[dict[str, Any]] = json.loads(text[text.index("[") :]) if "[" in text else []
        return found

    def undisturbed(self, resources: dict[str, Any]) -> Path:
        """The storage of the same training without disturbance."""
        workers = resources["workers"]
        if workers not in self._undisturbed:
            storage = self.folder / f"undisturbed-{workers}"
            file = write_sweep(
                self.folder / "undisturbed.yaml", tiny_sweep(self.folder / "data" / "corpus", **resources)
            )
            environment = {"RAY_ADDRESS": f"{self.head.address}:{PORT}", "STDCL_STORAGE": str(storage)}
            code, text = stdcl(self.head, "sweep", str(file), environment=environment)
            assert code == 0, text
            self._undisturbed[workers] = storage
        return self._undisturbed[workers]

    def end(self) -> None:
        """Switch everything off."""
        self._machines.off()
        shutil.rmtree(self._machines.folder, ignore_errors=True)


class Disturbed:
    """A sweep of one trial, its driver on the head.

    Args:
        cluster: where it trains.
        folder: for its files.
        resources: of the trial.
        rank: that is held at the place.
        slow: seconds of each step; then nothing is held.
        as_job: the driver is a job of the cluster.
        sweep: keys of the sweep file.
    """

    def __init__(
        self,
        cluster: Cluster,
        folder: Path,
        resources: dict[str, Any],
        *,
        rank: int = 0,
        slow: float = 0.0,
        as_job: bool = False,
        **sweep: Any,
    ) -> None:
        self._cluster, self._folder, self._as_job = cluster, folder, as_job
        self._undisturbed = cluster.undisturbed(resources)
        content = tiny_sweep(cluster.folder / "data" / "corpus", interval=None if slow else INTERVAL, **resources)
        self._file = write_sweep(folder / "sweep.yaml", {**content, **sweep})
        self.storage = folder / "storage"
        for left in cluster.hold.iterdir():
            left.unlink()
        plan = {"point": "slow", "seconds": slow} if slow else {**IN_THE_SECOND_EPOCH, "rank": rank}
        (cluster.hold / "plan.json").write_text(json.dumps(plan))
        self.process = self._start()
        if not slow:
            held = cluster.hold / "held"
            wait_until(lambda: held.exists() or self.process.poll() is not None, 180, "the place where it is held")
            assert held.exists(), self.text

    def _start(self) -> subprocess.Popen[bytes]:
        head = self._cluster.head
        sweep = ["env", f"STDCL_STORAGE={self.storage}", "stdcl", "sweep", str(self._file)]
        job = [*RAY, "job", "submit", "--address", DASHBOARD, "--", *sweep]
        command = job if self._as_job else ["env", f"RAY_ADDRESS={head.address}:{PORT}", *sweep]
        return head.start(*command, output=self._folder / "output.txt")

    def again(self) -> None:
        """Type the same command, once the first driver is gone."""
        self.process.wait(60)
        self.process = self._start()

    @property
    def text(self) -> str:
        """All that the drivers have printed."""
        return (self._folder / "output.txt").read_text()

    def until(self, mark: str, seconds: float = 120) -> float:
        """Wait for a word of the driver; return the seconds that it took."""
        took = wait_until(lambda: mark in self.text or self.process.poll() is not None, seconds, f"'{mark}'")
        assert mark in self.text, self.text
        return took

    def node_of(self, rank: int) -> Machine:
        """The machine on which a rank lives."""
        pids = [int(path.name.split("-")[2]) for path in self._cluster.hold.glob(f"rank-{rank}-*")]
        return next(
            node
            for node in self._cluster.nodes
            for pid, args in processes(node)
            if pid in pids and args.startswith("ray::")
        )

    def checkpoints(self) -> list[str]:
        """The names of the trial's checkpoints."""
        return sorted(path.name for path in self.storage.glob(f"{NAME}/trials/*/checkpoints/*"))

    def steps(self) -> list[tuple[int, int]]:
        """(epoch, step) of all steps that rank 0 took, repetitions included; both from 0."""
        return steps_taken(self._cluster.hold) if (self._cluster.hold / "steps-0").exists() else []

    def assert_as_undisturbed(self) -> None:
        """The driver ended well, the trial after one attempt, and the run is the undisturbed one to the last bit."""
        try:
            assert self.process.wait(300) == 0, self.text
        finally:
            self.process.kill()
        assert_as_undisturbed(the_run(self.storage), the_run(self._undisturbed))
        assert list(read_attempts(self.storage / NAME / "results")["status"]) == ["finished"]
