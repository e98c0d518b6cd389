"""A sweep's workspace at W&B: which panels it has, and their making by ``wandb-workspaces`` (a preview of W&B's).

What it shows is plain data (``layout``); ``build`` makes objects of the library, and only ``save`` asks a server.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from stdcl.errors import UserError
from stdcl.results.row import TERM_PREFIX
from stdcl.tracking.wandb_settings import WandbSettings, has_account

EPOCH = "epoch"
_BANK = "contrast/"


@dataclass(frozen=True)
class Panel:
    """One panel.

    Attributes:
        kind: curves over epochs; parallel: what varies, and the accuracy; importance: of what varies for the accuracy.
        metrics: names of the rows' numbers.
        keys: dotted keys of the configuration, for ``parallel``.
    """

    kind: Literal["curves", "parallel", "importance"]
    metrics: tuple[str, ...]
    keys: tuple[str, ...] = ()


@dataclass(frozen=True)
class Layout:
    """A workspace.

    Attributes:
        name: shown.
        sweep: the group whose runs it shows.
        grouped: dotted keys by which runs are one cell, so that seeds are a mean and a band.
        sections: title -> panels.
    """

    name: str
    sweep: str
    grouped: tuple[str, ...]
    sections: Mapping[str, tuple[Panel, ...]]


def layout(sweep: str, varied: Sequence[str], metrics: Sequence[str]) -> Layout:
    """Return a sweep's workspace.

    Args:
        sweep: its name.
        varied: dotted keys in which its runs differ, the seed aside.
        metrics: names of the numbers that its rows have; panels of others are left out.
    """
    terms = [name for name in sorted(metrics) if name == "ce" or name.startswith(TERM_PREFIX)]
    banks = sorted(name for name in metrics if name.startswith(_BANK))
    curves = [name for name in ("accuracy", "train_accuracy", "loss", "learning_rate") if name in metrics]
    sections: dict[str, tuple[Panel, ...]] = {
        "Accuracy by cell": tuple(Panel("curves", (name,)) for name in curves),
    }
    if varied:
        across = Panel("parallel", ("accuracy",), tuple(varied))
        sections["What varies"] = (across, Panel("importance", ("accuracy",)))
    if terms:
        sections["Loss terms"] = tuple(Panel("curves", (name,)) for name in terms)
    if banks:
        sections["Banks"] = tuple(Panel("curves", (name,)) for name in banks)
    return Layout(f"stdcl: {sweep}", sweep, tuple(varied), sections)


def build(wanted: Layout, entity: str, project: str) -> Any:
    """Return the library's workspace; nothing is sent.

    Raises:
        UserError: ``wandb-workspaces`` is not installed.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of the library's own making
        return _build(wanted, entity, project)


def _build(wanted: Layout, entity: str, project: str) -> Any:
    try:
        import wandb_workspaces.reports.v2 as panels
        import wandb_workspaces.workspaces as workspaces
    except ImportError:
        raise UserError(
            "a workspace is made by wandb-workspaces, which is not installed: pip install 'stdcl[dashboard]'; without "
            "an account, --local serves the sweep's page on this machine"
        ) from None

    def panel(each: Panel) -> Any:
        if each.kind == "parallel":
            columns = [panels.ParallelCoordinatesPlotColumn(panels.Config(key)) for key in each.keys]
            outcome = [panels.ParallelCoordinatesPlotColumn(panels.SummaryMetric(name)) for name in each.metrics]
            return panels.ParallelCoordinatesPlot(columns=[*columns, *outcome])
        if each.kind == "importance":
            return panels.ParameterImportancePlot(with_respect_to=each.metrics[0])
        return panels.LinePlot(title=each.metrics[0], x=EPOCH, y=list(each.metrics))

    shown = [
        workspaces.Section(name=title, panels=[panel(each) for each in parts], is_open=True)
        for title, parts in wanted.sections.items()
    ]
    runs = workspaces.RunsetSettings(
        filters=[
            workspaces.Metric("group") == wanted.sweep,
            workspaces.Metric("jobType") == "train",
        ],
        groupby=[workspaces.Config(key) for key in wanted.grouped],
    )
    return workspaces.Workspace(entity=entity, project=project, name=wanted.name, sections=shown, runset_settings=runs)


def save(wanted: Layout, settings: WandbSettings, environment: Mapping[str, str] = os.environ) -> str:
    """Make the workspace at W&B; returns its address. Each call makes a new view.

    Raises:
        UserError: ``wandb-workspaces`` is not installed, there is no account, or W&B refuses.
    """
    build(wanted, "nobody", settings.project)  # what is missing here is said before anything is asked of a server
    if not has_account(environment=environment):
        raise UserError(
            "this machine has no W&B account: run 'wandb login', or set WANDB_API_KEY; --local serves the sweep's page "
            "without one"
        )
    import wandb

    try:
        entity = settings.entity or wandb.Api().default_entity
        return str(build(wanted, str(entity), settings.project).save().url)
    except Exception as error:  # whatever the client raises is W&B's answer
        raise UserError(f"W&B made no workspace: {str(error).splitlines()[0] if str(error) else repr(error)}") from None
