"""Sweep folders made up for the tests of tables and figures."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import yaml

from stdcl.config import RunConfig, to_yaml
from stdcl.config.load import put, resolve
from stdcl.results.scores import Scores, write_scores
from stdcl.results.store import TrialRow, append

FACTS: dict[str, Any] = {
    "dataset": "nw-ucla",
    "protocol": "cross-view",
    "evaluated_on": "test",
    "stream": "joint",
    "encoder": "ctrgcn",
    "fingerprint": "",
    "code_version": "1234567",
    "data_hash": "feed",
}


@dataclass
class Sweep:
    """A sweep's folder under construction; ``add`` plans a trial and gives it a result, an error, or neither."""

    directory: Path
    parameters: tuple[str, ...]
    question: str = "Does the temperature matter?"
    search: str = "grid"
    planned: list[dict[str, Any]] = field(default_factory=list)
    seeds: list[int] = field(default_factory=list)
    plan_facts: dict[str, Any] = field(default_factory=dict)
    """Further keys of its plan."""
    file: dict[str, Any] = field(default_factory=dict)
    """Keys of the sweep's file, which is then a whole one; without, it is of no use."""

    def add(
        self,
        parameters: Mapping[str, Any],
        seed: int = 1,
        *,
        arm: str = "grid",
        correct: int | None = None,
        right: np.ndarray | None = None,
        num_test: int = 464,
        status: str | None = None,
        plan: bool = True,
        config: Mapping[str, Any] | None = MappingProxyType({}),
        epochs_done: int | None = None,
        store: bool = True,
        name: str = "",
        **facts: Any,
    ) -> str:
        if right is not None:
            correct, num_test = int(right.sum()), len(right)
        key = name or ",".join(
            [arm, *(f"{name.split('.')[-1]}={value}" for name, value in parameters.items()), f"seed={seed}"]
        )
        trial = {"key": key, "arm": arm, "parameters": dict(parameters), "seed": seed, "fingerprint": f"f-{key}"}
        if plan:
            self.planned.append(trial)
        folder = self.directory / "trials" / key
        if epochs_done is not None:
            folder.mkdir(parents=True, exist_ok=True)
            lines = [json.dumps({"schema": 2, "epoch": epoch, "loss": 1.0}) for epoch in range(1, epochs_done + 1)]
            (folder / "history.jsonl").write_text("".join(f"{line}\n" for line in lines))
        status = status or ("finished" if correct is not None else None)
        if status:
            accuracy = None if correct is None else correct / num_test
            values = {
                **FACTS,
                "strategy": "none"
                if arm == "baseline"
                else str(parameters.get("contrast.strategy", "spatial+temporal")),
                "fingerprint": f"f-{key}",
                **facts,
            }
            for name in ("encoder", "stream", "dataset", "protocol"):
                section = "encoder.name" if name == "encoder" else f"data.{name}"
                values[name] = parameters.get(section, values[name])
            if config is not None:
                folder.mkdir(parents=True, exist_ok=True)
                place = (values["dataset"], values["protocol"], values["stream"], values["encoder"])
                own = {"contrast.strategy": values["strategy"], "training.seed": seed}
                if values.get("synthetic"):
                    own["data.synthetic"] = {"sequences": 10}
                whole = published(*place, {**own, **parameters, **config})
                (folder / "config.yaml").write_text(to_yaml(whole))
            row = TrialRow(
                sweep=self.directory.name,
                key=key,
                attempt=0,
                status=status,  # type: ignore[arg-type]
                arm=arm,  # type: ignore[arg-type]
                seed=seed,
                parameters=parameters,
                accuracy=accuracy,
                best_accuracy=None if correct is None else min(1.0, (correct + 3) / num_test),
                best_epoch=None if correct is None else 5,
                num_test=None if correct is None else num_test,
                epochs=None if correct is None else 10,
                **values,
            )
            if right is not None:
                write_scores(folder / "scores.parquet", scores_of(right, row))
            if store:
                append(self.directory / "results", row)
            else:
                folder.mkdir(parents=True, exist_ok=True)
                last = {
                    "schema": 2,
                    "epoch": 10,
                    "accuracy": accuracy,
                    "best_accuracy": row.best_accuracy,
                    "num_test": num_test,
                }
                (folder / "result.json").write_text(json.dumps({"row": last, "fingerprint": row.fingerprint}))
        return key

    def save(self) -> Path:
        self.directory.mkdir(parents=True, exist_ok=True)
        plan = {
            "sweep": self.directory.name,
            "question": self.question,
            "parameters": list(self.parameters),
            "trials": self.planned if self.search == "grid" else [],
            "seeds": self.seeds,
            **self.plan_facts,
        }
        (self.directory / "plan.json").write_text(json.dumps(plan))
        content: dict[str, Any] = {"name": "x", "search": self.search}
        if self.file:
            base = {"data": {"dataset": "nw-ucla", "path": "x"}, "encoder": {"name": "ctrgcn"}}
            grid: dict[str, list[Any]] = {key: [] for key in self.parameters}
            for trial in self.planned:
                for key, value in trial["parameters"].items():
                    grid[key] += [value] if value not in grid[key] else []
            whole = {"question": self.question, "base": base, "grid": grid, "baseline": True}
            content |= whole | {"seeds": sorted({trial["seed"] for trial in self.planned})} | self.file
        (self.directory / "sweep.yaml").write_text(yaml.safe_dump(content))
        return self.directory


SUBJECTS, COPIES = 10, 95


def scores_of(right: np.ndarray, row: TrialRow) -> Scores:
    """Scores of two classes that are right where they should be; ten people, and NW-UCLA's number of copies."""
    n = len(right)
    labels = np.arange(n) % 2
    return Scores(
        ids=np.array([f"clip{i:05d}" for i in range(n)], dtype=object),
        labels=labels,
        logits=np.eye(2, dtype=np.float32)[np.where(right, labels, 1 - labels)],
        dataset=row.dataset,
        protocol=row.protocol,
        data_hash=row.data_hash,
        stream=row.stream,
        encoder=row.encoder,
        evaluated_on=row.evaluated_on,
        run=row.key,
        subjects=np.arange(n) * SUBJECTS // n,
        copies=np.arange(n) >= n - COPIES if row.dataset == "nw-ucla" else None,
        seed=row.seed,
        arm=row.strategy,
        fingerprint=row.fingerprint,
    )


def answers(accuracy: float, seed: int, *, shift: float = 0.0, num_test: int = 464) -> np.ndarray:
    """Made-up answers: sequences are easy or hard for every run, and each run is lucky on some.

    ``shift`` moves the accuracy of an arm; runs of one ``seed`` share a part of their luck.
    """
    hardness = np.random.default_rng(99).normal(size=num_test)
    shared = np.random.default_rng(seed).normal(size=num_test)
    own = np.random.default_rng(1000 * seed + round(1e4 * (shift + 1))).normal(size=num_test)
    strength = 2.0 * hardness + 0.6 * shared + 0.6 * own
    return strength < np.quantile(2.0 * hardness + 0.85 * own, accuracy + shift)


def published(dataset: str, protocol: str, stream: str, encoder: str, overrides: Mapping[str, Any]) -> RunConfig:
    """A configuration of the published recipe, with dotted overrides."""
    data = {"dataset": dataset, "path": "x", "protocol": protocol, "stream": stream}
    raw: dict[str, Any] = {"data": data, "encoder": {"name": encoder}}
    for key, value in overrides.items():
        put(raw, key, value)
    return resolve(raw, "a test")


def temperature_sweep(directory: Path, results: Mapping[float | None, Iterable[int]]) -> Sweep:
    """A sweep over tau; None is the baseline; numbers are right sequences of 464 by seed."""
    sweep = Sweep(directory, ("contrast.temperature",))
    for temperature, counts in results.items():
        for seed, correct in enumerate(counts, 1):
            if temperature is None:
                sweep.add({}, seed, arm="baseline", correct=correct)
            else:
                sweep.add({"contrast.temperature": temperature}, seed, correct=correct)
    return sweep
