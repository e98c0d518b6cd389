"""Which test sequences each finished trial of a sweep classifies rightly, where its scores are there and fit."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from stdcl.errors import UserError
from stdcl.report.load import TrialState
from stdcl.results.comparable import same_sequences, sequences_key
from stdcl.results.layout import RunFolder
from stdcl.results.scores import Answers, read_answers

_LISTED = 5  # trials that are named


@dataclass(frozen=True)
class SweepAnswers:
    """Answers of a sweep's trials.

    Attributes:
        by_trial: trial's key -> its answers, sequences in ascending order of their ids.
        missing: keys of finished trials without a file of scores.
        remarks: what was left out, and why.
    """

    by_trial: dict[str, Answers]
    missing: tuple[str, ...]
    remarks: tuple[str, ...]

    def common(self, trials: Iterable[TrialState]) -> Answers | None:
        """The sequences of trials, as those of one of them; None where they are not the same or a trial has none."""
        wanted = [trial.key for trial in trials]
        found = [self.by_trial[key] for key in wanted if key in self.by_trial]
        return found[0] if found and len(found) == len(wanted) and same_sequences(found) else None


def read_sweep_answers(trials: Iterable[TrialState]) -> SweepAnswers:
    """Read the answers of finished trials.

    A file that is damaged, of another training, or of another accuracy than the trial's result is left out and named;
    so is one that does not have the people or copies that the other files of the same sequences have.
    """
    found: dict[str, Answers] = {}
    missing: list[str] = []
    remarks: list[str] = []
    for trial in trials:
        if trial.state != "finished":
            continue
        path = RunFolder(trial.folder).scores()
        if not path.exists():
            missing.append(trial.key)
            continue
        try:
            answers = read_answers(path)
        except UserError as error:
            remarks.append(f"scores left out: {error}")
            continue
        fault = _fault(trial, answers)
        if fault:
            remarks.append(
                f"scores left out: {path}: {fault}; stdcl evaluate {shlex.quote(str(trial.folder))} writes them again"
            )
        else:
            found[trial.key] = answers
    for key, fault in _unlike(found).items():
        del found[key]
        remarks.append(f"scores left out: {key}: {fault}; stdcl evaluate writes them again")
    if found and missing:
        # A sweep from before trials wrote scores has none at all, which is no fault; a part of them is.
        more = f" and {len(missing) - _LISTED} more" if len(missing) > _LISTED else ""
        remarks.append(
            f"no file of scores: {', '.join(missing[:_LISTED])}{more}: left out of every verdict; stdcl evaluate "
            "writes them again"
        )
    return SweepAnswers(found, tuple(missing), tuple(remarks))


def _unlike(found: Mapping[str, Answers]) -> dict[str, str]:
    """Trials whose files say something else of the same sequences than most others do, and what."""
    groups: dict[int, dict[str, Answers]] = {}
    for key, answers in found.items():
        groups.setdefault(sequences_key(answers), {})[key] = answers
    out: dict[str, str] = {}
    for group in groups.values():
        for name, what in (("subjects", "people"), ("copies", "copies of training sequences")):
            said = {key: _bytes(getattr(answers, name)) for key, answers in group.items()}
            counts = Counter(said.values())
            # A file that says nothing never decides against those that do.
            usual = max(counts, key=lambda each: (each is not None, counts[each]))
            for key, own in said.items():
                if own != usual:
                    out.setdefault(key, f"{'no' if own is None else 'other'} {what} than the other trials' files have")
    return out


def _bytes(values: np.ndarray | None) -> bytes | None:
    return None if values is None else values.tobytes()


def _fault(trial: TrialState, answers: Answers) -> str:
    row = trial.row
    planned = str(row.get("fingerprint") or "")
    if planned and answers.fingerprint and planned != answers.fingerprint:
        return f"of another configuration ({answers.fingerprint}, expected {planned})"
    if row.get("data_hash") and row["data_hash"] != answers.data_hash:
        return f"of other data ({answers.data_hash[:16]}, expected {str(row['data_hash'])[:16]})"
    recorded = float(row["accuracy"])
    if len(answers.ids) != int(row["num_test"]) or abs(recorded - answers.accuracy) * len(answers.ids) >= 0.5:
        return (
            f"{100 * answers.accuracy:.2f} % of {len(answers.ids)} sequences are right, the trial's result is "
            f"{100 * recorded:.2f} % of {int(row['num_test'])}"
        )
    return ""
