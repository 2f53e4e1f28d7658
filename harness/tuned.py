"""The file that tuning writes and `run --tuned` reads: settings, where they are from, digests."""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.study_file import SHIPPED, InputError, Overrides

if TYPE_CHECKING:
    from harness.study import Study

HEAD = "# The best trial of each row by validation: what `tune` wrote, and `run --tuned` reads."


@dataclass(frozen=True)
class Chosen:
    """A row's best trial: its settings, score and policies, and a digest of all of its trials."""

    label: str
    trial: int
    trials: int
    score: float
    stderr: float
    policies: tuple[str, ...]
    settings: Mapping[str, Any]
    digest: str

    def line(self) -> str:
        """Return what was chosen, as a plan says it."""
        chosen = ", ".join(f"{key}={json.dumps(value)}" for key, value in self.settings.items())
        said = chosen or "as declared"
        of = f"trial {self.trial} of {self.trials}"
        return f"  {self.label:<16} {said}  ({of}, won {self.score:.3f} +- {self.stderr:.3f})"


def tuned_file(study: Study, results: Path) -> Path:
    """Return where tuned settings stand: beside the study, or in the results of a shipped one."""
    name = f"{study.file.stem}.tuned.toml"
    shipped = study.file.resolve().parent == SHIPPED.resolve()
    return results / study.name / name if shipped else study.file.with_name(name)


def sizes_of(study: Study) -> str:
    """Return the sizes that trials have in place of the study's, in the words of `--set`."""
    tables = study.declared.tune.datasets if study.declared.tune else {}
    return ", ".join(
        f"datasets.{label}.{name} = {json.dumps(value)}"
        for label, table in tables.items()
        for name, value in table.items()
    )


def digest_of(ids: Iterable[str]) -> str:
    """Return a digest of the ids of a row's trials, which change with all that they are made of."""
    return hashlib.sha256("\n".join(ids).encode()).hexdigest()[:16]


def tuned_text(study: Study, chosen: Iterable[Chosen]) -> str:
    """Return the file, in TOML; equal trials give equal bytes."""
    sizes = sizes_of(study)
    lines = [HEAD, *([f"# Trials had {sizes}."] if sizes else [])]
    lines += ["schema = 1", f"study = {json.dumps(study.name)}"]
    for one in chosen:
        lines += ["", f"[methods.{one.label}]"]
        for key in ("trial", "trials", "score", "stderr", "policies", "digest"):
            lines.append(f"{key} = {json.dumps(getattr(one, key))}")
        lines += ["", f"[methods.{one.label}.settings]"]
        lines += [f"{key} = {json.dumps(value)}" for key, value in one.settings.items()]
    return "\n".join(lines) + "\n"


def read_tuned(file: Path) -> list[Chosen]:
    """Return what a tuned file chose; raise InputError where there is none, or not such a file."""
    try:
        tables = tomllib.loads(file.read_text(encoding="utf-8"))["methods"]
        return [
            Chosen(**{**table, "label": label, "policies": tuple(table["policies"])})
            for label, table in tables.items()
        ]
    except FileNotFoundError:
        raise InputError(f"--tuned: no file {file}; run `tune` on the study first") from None
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(
            f"--tuned: {file} is not what `tune` writes ({error}); tune again"
        ) from None


def tuned_rows(study: Study, results: Path) -> list[Chosen]:
    """Return the tuned settings of the rows asked for, checked against the study as it stands.

    Raises InputError for a row with ranges that was not tuned, and for one whose trials would be
    others today: other settings, data, ranges, tuning seeds or stage versions.
    """
    from harness.tune_trials import only, trials_of

    file = tuned_file(study, results)
    known = {one.label: one for one in read_tuned(file)}
    again = f"run `tune {study.file}` again with the same options"
    trials = {count: trials_of(study, count) for count in {one.trials for one in known.values()}}
    wanted = [x for x in trials_of(study).labels if not study.only or x in study.only]
    for label in wanted:
        if label not in known:
            raise InputError(
                f"--tuned: {file} has no settings of {label}: it was not tuned, or no trial of it "
                f"succeeded; {again}, or leave it out by --only"
            )
        now = only(trials[known[label].trials], (label,)).trials(label)
        if digest_of(trial.judgements.id for trial in now) != known[label].digest:
            raise InputError(
                f"--tuned: {file} is out of date: the trials of {label} that chose its settings "
                f"are not those of the study as it stands; {again}"
            )
    return [known[label] for label in wanted]


def load_tuned(name: str, overrides: Overrides, plugins: tuple[Path, ...], results: Path) -> Study:
    """Return a study with the settings that tuning chose for it, and print them.

    Raises InputError where they are missing or out of date; see `tuned_rows`.
    """
    from harness.study import Study

    study = Study.load(name, overrides, plugins)
    chosen = tuned_rows(study, results)
    sizes = f" (trials had {sizes_of(study)})" if sizes_of(study) else ""
    head = f"tuned, by {tuned_file(study, results)}{sizes}:"
    print("\n".join([head, *(one.line() for one in chosen)]))
    settings = (*overrides.settings, *as_overrides(chosen))
    return Study.load(name, replace(overrides, settings=settings), plugins)


def as_overrides(chosen: Iterable[Chosen]) -> list[str]:
    """Return tuned settings in the words of `--set`."""
    return [
        f"methods.{one.label}.{key}={json.dumps(value)}"
        for one in chosen
        for key, value in one.settings.items()
    ]
