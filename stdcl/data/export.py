"""Stores written back in formats of other projects."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from stdcl import specs
from stdcl.data.store import SequenceStore
from stdcl.errors import UserError


class Export(Protocol):
    """What ``DatasetSpec.export`` leads to: writes a store in a dataset's own format."""

    def __call__(self, store: SequenceStore, out: Path, *, protocol: str) -> str:
        """Write ``store`` to the new file ``out``; return what to tell the user.

        Raises:
            UserError: the format cannot hold what is in the store.
        """


def formats() -> list[str]:
    """Return the names of the formats that stores can be written in."""
    return [name for name, spec in specs.datasets().items() if spec.export]


def export_store(store: Path, form: str, out: Path, *, protocol: str = "", force: bool = False) -> str:
    """Write a store in another project's format.

    Args:
        store: the store.
        form: one of :func:`formats`.
        out: the file to write.
        protocol: the split, for formats that hold one; empty: the first.
        force: replace ``out``.

    Raises:
        UserError: no store, ``out`` is taken, an unknown protocol, or the format cannot hold it.
    """
    if out.exists() and not force:
        raise UserError(f"--out {out}: something is there already; give another file, or --force to replace it")
    opened = SequenceStore.open(store)
    known = list(opened.rules)
    if protocol and protocol not in known:
        raise UserError(f"--protocol {protocol}: the store has {', '.join(known)}")
    spec = specs.dataset(form)
    if not spec.export:
        raise UserError(f"--format {form}: stores cannot be written in it; allowed: {', '.join(formats())}")
    write: Export = specs.load(spec.export)
    return write(opened, out, protocol=protocol or known[0])
