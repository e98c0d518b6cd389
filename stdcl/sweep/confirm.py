"""``stdcl confirm``: a search's best configurations as a sweep of their own, on fresh seeds and the test set."""

from __future__ import annotations

import itertools
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from stdcl import atomic
from stdcl.config.arms import BASELINE, DATASET, shared
from stdcl.config.confirms import ConfirmsConfig, PromiseConfig
from stdcl.config.contrast import long_keys
from stdcl.config.load import merge, read_mapping
from stdcl.config.model import METHOD_NAME, NO_METHOD
from stdcl.config.sweep import Sweep, SweepConfig, Trial, load_sweep
from stdcl.config.unread import unread
from stdcl.config.yaml_text import dump_yaml
from stdcl.errors import UserError
from stdcl.results.layout import SweepFolder, what_else
from stdcl.results.status import read_attempts_once
from stdcl.sweep import study as studies
from stdcl.sweep.storage import study_file

DEFAULT = "default"
"""The arm of the search's base as it stands: what would have been trained without the search."""
_SEARCHED = frozenset({"search", "space", "optuna", "table"})
"""Keys of a search's file that the confirming sweep has not."""


@dataclass(frozen=True)
class _Candidate:
    number: int
    trial: Trial
    promise: PromiseConfig

    @property
    def arm(self) -> str:
        return f"trial-{self.number}"


@dataclass(frozen=True)
class _Arms:
    settings: dict[str, dict[str, Any]]
    reference: str
    promises: dict[str, PromiseConfig]


def write_confirmation(search: Path, top: int, seeds: int, name: str | None = None) -> tuple[Path, list[str]]:
    """Write the sweep file that confirms a search, into the search's folder.

    The same call writes the same file; more configurations or seeds are added to it.

    Args:
        search: the search's folder.
        top: how many of its configurations, the best on the held-out sequences first.
        seeds: how many seeds, which the search has not used.
        name: of the confirming sweep; ``<search>_confirm`` if None.

    Returns:
        The file, and what a user should know.

    Raises:
        UserError: it is no search, is not finished, has nothing to confirm, or the file holds another selection.
    """
    folder = SweepFolder(search)
    if not folder.sweep_file.is_file():
        raise UserError(f"{search}: not a sweep's folder; {what_else(search, 'sweep') or 'it has no sweep.yaml'}")
    sweep = load_sweep(folder.sweep_file, saved=True)
    if sweep.config.search != "optuna":
        raise UserError(
            f"{search}: '{sweep.config.name}' is a grid, not a search: its trials are judged on what its file says, "
            "and there is nothing to confirm"
        )
    candidates, judged = _candidates(sweep, folder)
    chosen = candidates[:top]
    notes = []
    if len(chosen) < top:
        notes.append(f"{len(chosen)} of the {top} that were asked for: the search has no more complete trials")
    content = _content(sweep, chosen, judged, seeds, name or f"{sweep.config.name}_confirm")
    path = search / f"{content['name']}.yaml"
    if content["name"] == sweep.config.name:
        raise UserError(f"--name {content['name']}: that is the search's own; give another name")
    if path.exists():
        _refuse_another_selection(path, content)
    words = ["stdcl", "confirm", sweep.config.name, "--top", str(top), "--seeds", str(seeds)]
    command = shlex.join([*words, *(["--name", name] if name else [])])
    atomic.write_text(path, f"# Written by `{command}`.\n{dump_yaml(content)}")
    return path, notes


def _candidates(sweep: Sweep, folder: SweepFolder) -> tuple[list[_Candidate], int]:
    """The complete trials of a finished search, the best first, each configuration once; and how many were judged."""
    config = sweep.config
    if not study_file(config.search_settings, folder.study).is_file():
        raise UserError(f"{folder.root}: its study is not there ({folder.study}); the search has not been run here")
    with studies.opened(sweep, folder.study, studies.whole_epochs(sweep)) as (study, _):
        judged = studies.judged(study)
    wanted = config.search_settings.trials
    if len(judged) < wanted:
        raise UserError(
            f"{folder.root}: the search '{config.name}' is not finished: {len(judged)} of {wanted} trials are judged, "
            "and the best of those so far may not be the best. Let it end, or end it there by "
            f"--set optuna.trials={max(1, len(judged))} on its `stdcl sweep` command"
        )
    rows = read_attempts_once(folder.results).latest
    found: dict[str, _Candidate] = {}
    complete = [trial for trial in judged if trial.state == TrialState.COMPLETE]
    for trial in sorted(complete, key=lambda each: (-studies.accuracy_of(sweep, each), each.number)):
        candidate = _candidate(sweep, trial, rows)
        found.setdefault(candidate.trial.fingerprint, candidate)
    if not found:
        raise UserError(
            f"{folder.root}: none of the {len(judged)} trials of '{config.name}' ran to its end: nothing was promised "
            "that could be confirmed"
        )
    return list(found.values()), len(judged)


def _candidate(sweep: Sweep, trial: FrozenTrial, rows: Mapping[str, Mapping[str, Any]]) -> _Candidate:
    key = str(trial.user_attrs.get("trial", f"trial={trial.number}"))
    made = sweep.make_trial("", long_keys(trial.params), sweep.config.seeds[0])
    count = rows.get(key, {}).get("num_test")
    return _Candidate(
        trial.number,
        made,
        PromiseConfig(trial=key, accuracy=studies.accuracy_of(sweep, trial), sequences=int(count) if count else None),
    )


def _content(sweep: Sweep, chosen: Sequence[_Candidate], judged: int, seeds: int, name: str) -> dict[str, Any]:
    config = sweep.config
    arms = _arms(sweep, chosen)
    used = set(config.seeds)
    fresh = list(itertools.islice((seed for seed in itertools.count(1) if seed not in used), seeds))
    base = merge(config.base, {"data": {"evaluate_on": "test"}})
    base["data"].pop("validation_fraction", None)  # read where subjects are held out alone
    datasets = {settings[DATASET] for settings in arms.settings.values() if DATASET in settings}
    settings = {_setting(candidate.trial.parameters) for candidate in chosen}
    out = {
        **{key: value for key, value in config.model_dump(mode="json").items() if key not in _SEARCHED},
        "name": name,
        "question": (
            f"What do the best {len(chosen)} of the {judged} configurations that '{config.name}' judged on held-out "
            "subjects reach on the test set, over fresh seeds?"
        ),
        "base": base,
        "paths": {key: value for key, value in config.paths.items() if key in datasets},
        "arms": arms.settings,
        "reference": arms.reference,
        "compare": "nothing" if len(settings) > 1 else "to baseline" if len(arms.settings) > 1 else None,
        "seeds": fresh,
        "confirms": ConfirmsConfig(
            search=config.name,
            judged=judged,
            seeds=config.seeds,
            arms=arms.promises,
            base=base,
        ).model_dump(mode="json"),
    }
    defaults = SweepConfig.model_fields
    return {key: value for key, value in out.items() if value not in (None, [], {}) or defaults[key].is_required()}


def _setting(parameters: Mapping[str, Any]) -> str:
    """Return a text, equal for configurations of the same setting: encoder, data, training; not what is contrasted."""
    return repr(sorted(shared(parameters).items(), key=lambda pair: pair[0]))


def _arms(sweep: Sweep, chosen: Sequence[_Candidate]) -> _Arms:
    """The arms: cross-entropy alone in each setting, the base as it stands, and each configuration.

    A configuration that the search has found again, the base's own values for example, keeps its name.
    """
    seed = sweep.config.seeds[0]
    plain = _plain(sweep, chosen, seed)
    controls = [(BASELINE if number == 0 else f"{BASELINE}-{number + 1}", each) for number, each in enumerate(plain)]
    if (default := _made(sweep, {}, seed)) is not None:
        controls.append((DEFAULT, default))
    found: dict[str, tuple[str, Trial]] = {}
    for name, trial in (*controls, *((candidate.arm, candidate.trial) for candidate in chosen)):
        found.setdefault(trial.fingerprint, (name, trial))
    arms = {name: _read(trial) for name, trial in found.values()}
    promises = {found[candidate.trial.fingerprint][0]: candidate.promise for candidate in chosen}
    return _Arms(arms, next(iter(arms)), promises)


def _plain(sweep: Sweep, chosen: Sequence[_Candidate], seed: int) -> Iterator[Trial]:
    """Cross-entropy alone, once in each setting of the chosen configurations."""
    seen: set[str] = set()
    for candidate in chosen:
        if not candidate.trial.config.method_name:
            continue
        own = {METHOD_NAME: NO_METHOD, **shared(candidate.trial.parameters)}
        trial = _made(sweep, own, seed)
        if trial is not None:
            read = {key: value for key, value in own.items() if key not in unread(trial.config)}
            trial = _made(sweep, read, seed)
        if trial is not None and trial.fingerprint not in seen:
            seen.add(trial.fingerprint)
            yield trial


def _made(sweep: Sweep, parameters: dict[str, Any], seed: int) -> Trial | None:
    """A trial of the search's base, None where that is no possible configuration."""
    try:
        return sweep.make_trial("", parameters, seed)
    except UserError:
        return None


def _read(trial: Trial) -> dict[str, Any]:
    """What of a trial's parameters its training reads."""
    not_read = unread(trial.config)
    return {key: value for key, value in trial.parameters.items() if key not in not_read}


def _refuse_another_selection(path: Path, content: Mapping[str, Any]) -> None:
    """Refuse to replace configurations that may have been trained already: what was confirmed stays in the table."""
    old = read_mapping(path)
    gone = [arm for arm in old.get("arms", {}) if old["arms"][arm] != content["arms"].get(arm)]
    promised = (old.get("confirms") or {}).get("arms", {})
    gone += [arm for arm in promised if arm not in content["confirms"]["arms"] and arm not in gone]
    fewer = [seed for seed in old.get("seeds", []) if seed not in content["seeds"]]
    if gone or fewer:
        what = f"the arm(s) {', '.join(gone)}" if gone else f"the seed(s) {', '.join(map(str, fewer))}"
        raise UserError(
            f"{path}: this confirmation has {what}, which would be lost: what was once chosen stays in its table. Ask "
            "for as many or more (--top, --seeds), or begin another confirmation (--name)"
        )
