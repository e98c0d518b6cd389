"""Stops the real training loop at a chosen place, so that a test can kill processes there.

Python imports this module at its start in every process that has this folder on its path; the product knows nothing of
it. In a process whose environment names a folder in ``HOLD_FOLDER`` it adds a callback to those of
``stdcl.training.trainer`` when that module is imported:

- every rank says who it is (``rank-<rank>-<pid>``) and which steps it takes (``steps-<rank>``: a line a step);
- the rank that ``plan.json`` names (``{"point": "step" | "write" | "evaluate", "rank", "epoch", "step"}``) writes
  ``held`` at that place, the first time it comes there, and stays until ``released`` exists;
- with ``{"point": "slow", "seconds"}`` every step takes so much longer.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

FOLDER = os.environ.get("HOLD_FOLDER")
MODULE = "stdcl.training.trainer"


def _hold(folder: Path) -> None:
    try:
        descriptor = os.open(folder / "held", os.O_CREAT | os.O_EXCL)
    except FileExistsError:
        return
    os.close(descriptor)
    while not (folder / "released").exists():
        time.sleep(0.02)


def _wrap(module: ModuleType, folder: Path) -> None:
    """Give every run one more callback."""
    from stdcl.training.callbacks import Callback

    plan = json.loads((folder / "plan.json").read_text()) if (folder / "plan.json").exists() else {}

    class Hold(Callback):
        def __init__(self, rank: int) -> None:
            self._rank = rank
            self._undo: Callable[[], None] = lambda: None
            (folder / f"rank-{rank}-{os.getpid()}").touch()

        def _here(self, point: str, epoch: int, step: int) -> bool:
            return plan == {"point": point, "rank": self._rank, "epoch": epoch, "step": step}

        def on_step_start(self, trainer: Any, epoch: int, step: int) -> None:
            if plan.get("point") == "slow":
                time.sleep(plan["seconds"])
            if self._here("step", epoch, step):
                # The other ranks are in this step's first collective meanwhile.
                _hold(folder)

        def on_step_end(self, trainer: Any, epoch: int, step: int, steps: int) -> None:
            with (folder / f"steps-{self._rank}").open("a") as stream:
                stream.write(f"{epoch} {step}\n")

        def on_evaluate(self, trainer: Any, epoch: int) -> None:
            if self._here("evaluate", epoch, 0):
                _hold(folder)

        def on_save(self, trainer: Any, position: Any) -> None:
            if not self._here("write", position.epoch, position.step):
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
            self._undo = lambda: setattr(torch, "save", real)

        def on_saved(self, trainer: Any, position: Any) -> None:
            self._undo()

    usual = module.default_callbacks
    module.default_callbacks = lambda trainer: [Hold(trainer.comm.rank), *usual(trainer)]  # type: ignore[attr-defined]


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
