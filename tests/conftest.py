"""What several test modules share."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from hypothesis import settings

# Many tests play several ranks at once: more threads a product would only get in each other's way.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A busy machine is no fault of the code.
settings.register_profile("stdcl", deadline=None)
settings.load_profile("stdcl")

# A shell without job control starts background commands with Ctrl-C ignored; commands under test would inherit that.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def nw_ucla_raw() -> Path:
    """The real NW-UCLA files: $STDCL_NW_UCLA_RAW, else ../shared/data/nw-ucla/all_sqe beside the checkout."""
    named = os.environ.get("STDCL_NW_UCLA_RAW")
    folder = Path(named) if named else ROOT.parent / "shared" / "data" / "nw-ucla" / "all_sqe"
    if not folder.is_dir():
        pytest.skip(f"the real NW-UCLA files are not at {folder} (set STDCL_NW_UCLA_RAW)")
    return folder


@pytest.fixture(scope="session")
def nw_ucla_store(nw_ucla_raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real NW-UCLA data, prepared once a test session."""
    from stdcl.data.nw_ucla.prepare import prepare_nw_ucla

    out = tmp_path_factory.mktemp("nw-ucla") / "store"
    prepare_nw_ucla(nw_ucla_raw, out)
    return out
