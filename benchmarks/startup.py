"""What the command costs before it does anything: processor time of ``stdcl --help`` beside an empty Python.

    python benchmarks/startup.py [--repeats N] [--libraries]

``--libraries`` adds a program of one verb per command-line library that is installed (argparse, click, typer,
cyclopts). The programs are interleaved; user and system seconds are counted, so a busy machine disturbs little.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import statistics
import subprocess
import sys

PROGRAMS = {
    "empty Python": ["-c", "pass"],
    "stdcl --help": ["-m", "stdcl", "--help"],
    "stdcl data prepare --help": ["-m", "stdcl", "data", "prepare", "--help"],
}
LIBRARIES = {
    "argparse": "p = argparse.ArgumentParser(); p.add_subparsers().add_parser('train'); p.parse_args(['--help'])",
    "click": "click.Group('x', {'train': click.Command('train')})(['--help'])",
    "typer": "a = typer.Typer(); a.command('train')(lambda: None); a.command('test')(lambda: None); a(['--help'])",
    "cyclopts": "a = cyclopts.App(); a.command(lambda: None, name='train'); a(['--help'])",
}


def processor_seconds(arguments: list[str]) -> float:
    """Return user and system seconds of a Python process."""
    process = subprocess.Popen([sys.executable, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, _, used = os.wait4(process.pid, 0)
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Print a line per program."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=11)
    parser.add_argument("--libraries", action="store_true")
    options = parser.parse_args()
    programs = dict(PROGRAMS)
    if options.libraries:
        found = {name: code for name, code in LIBRARIES.items() if importlib.util.find_spec(name)}
        programs |= {name: ["-c", f"import {name}; {code}"] for name, code in found.items()}
    seconds: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(options.repeats):
        for name, arguments in programs.items():
            seconds[name].append(processor_seconds(arguments))
    bare = min(seconds["empty Python"])
    for name, values in seconds.items():
        best = min(values)
        print(
            f"{name:<26} {1e3 * best:6.1f} ms (median {1e3 * statistics.median(values):6.1f}), "
            f"{1e3 * (best - bare):6.1f} ms more, ratio {best / bare:4.1f}"
        )


if __name__ == "__main__":
    main()
