"""``importance.json``: how much each searched parameter matters, computed from a finished or growing search."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from stdcl import atomic
from stdcl.config.contrast import long_key
from stdcl.errors import UserError

LEAST = 8
"""Complete trials below which nothing is computed: the best tenth would be a part of one trial."""


@dataclass(frozen=True)
class Share:
    """A parameter's share of the importance, with the range of the middle 90 % of resampled studies."""

    share: float
    low: float
    high: float


@dataclass(frozen=True)
class Importance:
    """Importances of a search's parameters.

    Attributes:
        method: how they were computed.
        complete: trials that count.
        pruned: trials that were stopped early, which the method leaves out.
        parameters: dotted key -> share; together 1.
    """

    method: str
    complete: int
    pruned: int
    parameters: Mapping[str, Share]


def write_importance(path: Path, importance: Importance) -> None:
    """Write it, atomically."""
    atomic.write_json(path, asdict(importance))


def read_importance(path: Path) -> Importance | None:
    """Return a search's importances, None if it has none.

    Raises:
        UserError: the file is there, and is damaged or cannot be read.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        shares = {
            long_key(key): Share(**{n: float(v) for n, v in each.items()})
            for key, each in content["parameters"].items()
        }
        return Importance(str(content["method"]), int(content["complete"]), int(content["pruned"]), shares)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: not the importances of a search ({type(error).__name__}: {error})") from None
