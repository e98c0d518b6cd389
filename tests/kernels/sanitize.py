"""Run the kernels' tests under the address and undefined-behaviour sanitizers.

    python -m tests.kernels.sanitize [PYTEST ARGUMENT ...]

The package and its tests are copied to a temporary folder, the extensions are built there with the sanitizers, and the
tests run there: a read or write outside of a tensor, an overflow or a misaligned access ends them with a report. Where
the sanitizers are not installed the command says so and succeeds.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TESTS = [f"tests/kernels/test_{name}.py" for name in ("batch_norm", "branches", "graph_product", "attention", "checks")]
# -O1: the sanitizers look at the source's accesses, and optimising what they add takes a minute.
FLAGS = "-O1 -g1 -fPIC -shared -fopenmp -fsanitize=address,undefined -fno-sanitize-recover=undefined"

FAULT = """
import torch
from stdcl.kernels import batch_norm
batch_norm._normalise(torch.zeros(8, 4), torch.zeros(2, 4), torch.zeros(4), torch.zeros(4), True)
"""
"""Reads past the end of the residual, behind the interface's checks: what the sanitizers must notice."""


def main(arguments: list[str]) -> int:
    compiler = os.environ.get("CC", "gcc")
    library = sanitizer(compiler)
    if library is None:
        print(f"sanitizers: skipped, because '{compiler}' has no address sanitizer here (Debian: apt install libasan8)")
        return 0
    begin = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="stdcl-sanitize-") as folder:
        copy = Path(folder)
        for name in ("stdcl", "tests"):
            shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("*.so", "__pycache__", "golden"))
        for extension in tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["ext-modules"]:
            made = copy / (extension["name"].replace(".", "/") + sysconfig.get_config_var("EXT_SUFFIX"))
            include = sysconfig.get_paths()["include"]
            build = [compiler, *FLAGS.split(), f"-I{include}", *extension["sources"], "-o", str(made)]
            subprocess.run(build, cwd=copy, check=True)
        environment = os.environ | {
            "LD_PRELOAD": library,
            "PYTHONPATH": str(copy),
            "ASAN_OPTIONS": "detect_leaks=0:abort_on_error=0",  # Python's own memory is never all freed
            "UBSAN_OPTIONS": "print_stacktrace=1",
            "STDCL_KERNELS": "1",
            "OMP_NUM_THREADS": "1",  # the tests of several threads set their own number
            "OMP_WAIT_POLICY": "passive",
        }
        seen = subprocess.run([sys.executable, "-c", FAULT], cwd=copy, env=environment, capture_output=True, text=True)
        if "heap-buffer-overflow" not in seen.stderr:
            print(f"sanitizers: FAILED, a read past a tensor's end was not noticed\n{seen.stderr}")
            return 1
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *(arguments or TESTS)]
        done = subprocess.run(command, cwd=copy, env=environment)
    print(f"sanitizers: {'clean' if done.returncode == 0 else 'FAILED'}, {time.monotonic() - begin:.0f} s")
    return done.returncode


def sanitizer(compiler: str) -> str | None:
    """Return the path of the compiler's address sanitizer, or None if it has none."""
    if shutil.which(compiler) is None:
        return None
    asked = [compiler, "-print-file-name=libasan.so"]
    path = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    return path if Path(path).is_absolute() and Path(path).exists() else None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
