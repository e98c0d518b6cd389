"""Preparation of a synthetic NTU RGB+D 120 corpus: files per second, peak memory, store size, a SIGKILL in
the middle.

    python benchmarks/prepare_ntu.py --folder /data/scratch --files 20000

makes the corpus in the folder (unless it is there), prepares it with ``stdcl data prepare ntu120`` on all
cores, prepares it again with a SIGKILL of the command when half of the parts are there and the same command
once more, compares the two stores, prints a Markdown report, and removes what it made (``--keep`` leaves
the corpus).

Memory is that of the whole process tree, sampled every 0.1 s: private pages plus each process's share of
common ones (PSS; it counts pages of memory-mapped files too), and the anonymous part alone, which the
system cannot drop. CPU seconds are those of the command and its workers (not known for a killed one): on a
busy machine they say more than the wall clock.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from stdcl.data.ntu.prepare import list_raw, pieces_of, storage_text
from stdcl.data.ntu.synthetic import synth_ntu
from stdcl.data.store import SequenceStore

COMMAND = [sys.executable, "-m", "stdcl"]


@dataclass
class Run:
    seconds: float
    cpu_seconds: float
    load: float
    peak_pss: int
    peak_anonymous: int
    output: str
    killed: bool


def tree_memory(process: psutil.Process) -> tuple[int, int]:
    """Return (PSS, anonymous) bytes of a process and all its children."""
    pss = anonymous = 0
    with suppress(psutil.NoSuchProcess):
        for member in [process, *process.children(recursive=True)]:
            with suppress(OSError, psutil.NoSuchProcess):
                for line in Path(f"/proc/{member.pid}/smaps_rollup").read_text().splitlines():
                    if line.startswith("Pss:"):
                        pss += int(line.split()[1]) * 1024
                    elif line.startswith("Anonymous:"):
                        anonymous += int(line.split()[1]) * 1024
    return pss, anonymous


def prepare(raw: Path, out: Path, *, kill_at_parts: int | None = None) -> Run:
    work = out.parent / f".{out.name}.prepare"
    load = os.getloadavg()[0]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    begin = time.perf_counter()
    process = subprocess.Popen(
        [*COMMAND, "data", "prepare", "ntu120", "--raw", str(raw), "--out", str(out)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    watched = psutil.Process(process.pid)
    pss = anonymous = 0
    killed = False
    while process.poll() is None:
        now = tree_memory(watched)
        pss, anonymous = max(pss, now[0]), max(anonymous, now[1])
        if kill_at_parts is not None and len(list(work.glob("part-*.arrow"))) >= kill_at_parts:
            process.send_signal(signal.SIGKILL)
            killed = True
            break
        time.sleep(0.1)
    output = process.communicate()[0]
    seconds = time.perf_counter() - begin
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    if not killed and process.returncode:
        raise SystemExit(f"the preparation failed:\n{output}")
    return Run(seconds, cpu, load, pss, anonymous, output, killed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="where there is room: about 300 kB a file")
    parser.add_argument("--files", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", action="store_true")
    options = parser.parse_args()
    raw = options.folder / f"raw-{options.files}"
    if not raw.exists():
        made = synth_ntu("ntu120", raw, sequences=options.files, seed=options.seed)
        print(f"- corpus: {made.render()}", flush=True)
    size = sum(entry.stat().st_size for entry in os.scandir(raw))
    print(
        f"- machine: {os.cpu_count()} cores, {platform.machine()}; raw text {size / 2**30:.2f} GiB\n",
        flush=True,
    )
    whole = prepare(raw, options.folder / "whole")
    pieces = [len(piece) for piece in pieces_of(list_raw("ntu120", [raw]).files)]
    parts = len(pieces)
    first = prepare(raw, options.folder / "killed", kill_at_parts=parts // 2)
    second = prepare(raw, options.folder / "killed")
    print("| run | load before | seconds | files/s | raw MiB/s | CPU seconds | peak memory (PSS) | of it anonymous |")
    print("|---|---|---|---|---|---|---|---|")
    for name, run in (
        ("without interruption", whole),
        (f"until SIGKILL at {parts // 2} of {parts} parts", first),
        ("the same command again", second),
    ):
        done = sum(pieces[: parts // 2]) if run.killed else options.files
        text = done / options.files * size / 2**20
        print(
            f"| {name} | {run.load:.1f} | {run.seconds:.1f} | {done / run.seconds:,.0f} | {text / run.seconds:,.0f}"
            f" | {'-' if run.killed else f'{run.cpu_seconds:.1f}'}"
            f" | {run.peak_pss / 2**20:,.0f} MiB | {run.peak_anonymous / 2**20:,.0f} MiB |",
            flush=True,
        )
    a, b = (SequenceStore.open(options.folder / name).manifest for name in ("whole", "killed"))
    print(f"\n- killed: {first.killed}; stores equal: {a.content_hash == b.content_hash} ({a.content_hash})")
    print(f"- store: {storage_text(a)}")
    print(f"\n```\n{whole.output}\n{second.output}```")
    for name in ("whole", "killed", *(() if options.keep else (raw.name,))):
        shutil.rmtree(options.folder / name)


if __name__ == "__main__":
    main()
