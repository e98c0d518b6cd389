"""Stops the real training loop at a chosen place, so that a test can kill processes there.

Python imports this module at its start in every process that has this folder on its path; the product knows nothing of
it. In a process whose environment names a folder in ``HOLD_FOLDER`` it wraps a few functions of ``stdcl.train.trainer``
when that module is imported:

- every rank says who it is (``rank-<rank>-<pid>``) and which steps it takes (``steps-<rank>``: a line a step);
- the rank that ``plan.json`` names (``{"point": "step" | "write" | "evaluate", "rank", "epoch", "step"}``) writes
  ``held`` at that place, the first time it comes there, and stays until ``released`` exists.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import json
import os
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

FOLDER = os.environ.get("HOLD_FOLDER")
MODULE = "stdcl.train.trainer"


def _hold(folder: Path) -> None:
    try:
        descriptor = os.open(folder / "held", os.O_CREAT | os.O_EXCL)
    except FileExistsError:
        return
    os.close(descriptor)
    while not (folder / "released").exists():
        time.sleep(0.02)


def _wrap(session: ModuleType, folder: Path) -> None:
    plan = json.loads((folder / "plan.json").read_text()) if (folder / "plan.json").exists() else {}

    def here(point: str, rank: int, epoch: int, step: int) -> bool:
        return plan == {"point": point, "rank": rank, "epoch": epoch, "step": step}

    kind: Any = session._Session  # type: ignore[attr-defined]
    start, step_of, save, evaluate = kind.__init__, kind._step, kind._save, kind._evaluate

    def init(self: Any, *args: Any) -> None:
        start(self, *args)
        (folder / f"rank-{self.comm.rank}-{os.getpid()}").touch()

    def step(self: Any, batch: Any, epoch: int, number: int, *args: Any) -> None:
        if here("step", self.comm.rank, epoch, number):
            # The other ranks are in this step's first collective meanwhile.
            _hold(folder)
        step_of(self, batch, epoch, number, *args)
        with (folder / f"steps-{self.comm.rank}").open("a") as stream:
            stream.write(f"{epoch} {number}\n")

    def saving(self: Any, position: Any) -> None:
        if not here("write", self.comm.rank, position.epoch, position.step):
            save(self, position)
            return
        import torch

        real = torch.save

        def half(content: Any, path: Any, *args: Any, **kwargs: Any) -> None:
            """Write the file, cut it in half, stay; write it again when released."""
            real(content, path, *args, **kwargs)
            os.truncate(path, Path(path).stat().st_size // 2)
            _hold(folder)
            real(content, path, *args, **kwargs)

        torch.save = half
        try:
            save(self, position)
        finally:
            torch.save = real

    def evaluating(self: Any, epoch: int) -> Any:
        if here("evaluate", self.comm.rank, epoch, 0):
            _hold(folder)
        return evaluate(self, epoch)

    kind.__init__, kind._step, kind._save, kind._evaluate = init, step, saving, evaluating


class _Finder(importlib.abc.MetaPathFinder):
    """Finds ``MODULE`` as the other finders do, and wraps it once it is executed."""

    def find_spec(self, name: str, path: Any, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        if name != MODULE:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is None or spec.loader is None:
            return None
        run = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            run(module)
            _wrap(module, Path(str(FOLDER)))

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


if FOLDER:
    sys.meta_path.insert(0, _Finder())
