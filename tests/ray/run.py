"""``python -m tests.ray.run KIND FILE FOLDER STUB [a.b=c ...]``: a sweep or a training with the stub as its loop.

A stub of which ``meet`` is said is a ``Witness``, of GPUs that are declared only.
A process of its own, so that tests can interrupt and kill it, and Ray's own warnings stay there.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from stdcl.config import read_run_file
from stdcl.errors import UserError
from stdcl.launch.device import CARDS
from tests.ray.declared import DECLARED, Witness
from tests.ray.stub import Stub


def main(kind: str, file: str, folder: str, stub: str, *overrides: str) -> int:
    settings = {key: tuple(value) if isinstance(value, list) else value for key, value in json.loads(stub).items()}
    # Cards that are declared only are looked for where nothing is said of them.
    declared = "meet" in settings
    loop = Witness(**settings) if declared else Stub(**settings)
    try:
        if kind == "sweep":
            from stdcl.cli.console import outlive_terminal, outliving_streams
            from stdcl.sweep.driver import run_sweep

            outlive_terminal()
            with outliving_streams():
                return run_sweep(
                    Path(file),
                    overrides,
                    storage=Path(folder),
                    loop=loop,
                    cards=DECLARED if declared else CARDS,
                    check=lambda config: (),
                )
        from stdcl.launch.worker_group import launch

        last = launch(
            read_run_file(Path(file), overrides),
            Path(folder),
            on_row=lambda row: print(json.dumps(row), flush=True),
            on_event=lambda text: print(text, flush=True),
            loop=loop,
        )
        return 0 if last["done"] else 1
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
