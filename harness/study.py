"""A study: the same base, prompts and feedback in every row; only the method differs.

`Study.load` reads a TOML file and refuses it with every problem at once. `study.cells()` calls the
methods and returns handles: what each cell would make is known, and nothing has run.
"""

from __future__ import annotations

import json
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from harness import registry
from harness.adapters import LORA, with_setup
from harness.artifacts import Policy, Samples, Scores
from harness.bases import base_policy
from harness.constitution import ConstitutionError
from harness.judge import Judge
from harness.judge_conflicts import of_labeller, of_training
from harness.selection import reached, selected
from harness.shared import Data, Shared, Subject, derived_seed
from harness.sources import Search, searching
from harness.stage import Artifact
from harness.stages.finetune import finetune
from harness.stages.sample import sample
from harness.stages.unplanned import unplanned_policy, unplanned_scores
from harness.study_file import (
    AT_CHECKPOINT,
    Overrides,
    StudyError,
    StudyFile,
    locate,
    override,
    read,
)
from harness.study_plugins import in_study, load_plugins
from harness.study_problems import SECTIONS, check
from harness.study_sources import search_for

T = TypeVar("T", Policy, Scores)
NO_OVERRIDES = Overrides()
LONGEST_REASON = 4000  # characters of a plugin's traceback that are kept


@dataclass(frozen=True)
class Cell:
    """One method on one dataset from one base with one seed, and what evaluates it."""

    study: str
    base: str
    dataset: str
    label: str
    method: str
    seed: int
    policy: Policy
    samples: Mapping[str, Samples]
    scores: Mapping[str, Scores]
    shared: Shared
    data: Data

    @property
    def name(self) -> str:
        """Base, dataset, label and seed, as the command line names the cell."""
        return f"{self.base}/{self.dataset}/{self.label}/{self.seed}"

    @property
    def targets(self) -> list[Artifact]:
        """Everything whose making makes the cell done."""
        return [self.policy, *self.samples.values(), *self.scores.values()]


@dataclass(frozen=True)
class Block:
    """What all methods of one base, dataset and seed have in common."""

    base: str
    dataset: str
    seed: int
    shared: Shared
    data: Data
    judge: Judge | None
    opponent: Mapping[str, Samples]


@dataclass(frozen=True)
class Study:
    """A study whose file, settings and plugins have been checked."""

    declared: StudyFile
    file: Path
    only: tuple[str, ...]
    sft_seed: int | None
    plugins: tuple[Path, ...]
    broken: Mapping[str, str]
    search: Search

    @classmethod
    def load(
        cls,
        name_or_path: str | Path,
        overrides: Overrides = NO_OVERRIDES,
        plugins: tuple[Path, ...] = (),
        search: Search | None = None,
    ) -> Study:
        """Return a study by path or shipped name; raise StudyError with every problem found.

        Inputs are looked for by `search`, or as the file says: in its mirror, else on this machine.
        """
        file = locate(name_or_path)
        raw = read(file)
        first = raw["seeds"][0] if isinstance(raw.get("seeds"), list) and raw["seeds"] else None
        problems = override(raw, overrides)
        named = raw.get("plugins")
        listed = named if isinstance(named, list) else []
        beside = [in_study(plugin, file.parent) for plugin in listed if isinstance(plugin, str)]
        loaded, broken, refused = load_plugins((*beside, *plugins))
        problems += refused
        search = search or search_for(file, raw)
        search.absent.clear()
        with searching(search):
            problems += check(raw, file.parent, overrides, broken=bool(broken))
        if problems:
            raise StudyError([*problems, *search.absent])
        declared = StudyFile.model_validate_json(json.dumps(raw))
        sft_seed = first if declared.share_sft else None
        study = cls(declared, file, overrides.only, sft_seed, loaded, broken, search)
        study.cells()
        return study

    @property
    def name(self) -> str:
        """The name that the results folder has."""
        return self.declared.name

    def cells(self) -> list[Cell]:
        """Return every requested cell as handles; raise StudyError where a plugin refuses."""
        return list(self._cells)

    @cached_property
    def _cells(self) -> tuple[Cell, ...]:
        return tuple(Planning(self).cells())


class Planning:
    """Calls the plugins of one study and collects what they refuse.

    A plugin refuses its settings or data by ValueError, which is a problem of the study. Anything
    else that a method or suite raises is a fault of the plugin, and only its own cells fail.
    """

    def __init__(self, study: Study) -> None:
        self.study = study
        self.declared = study.declared
        self.problems: list[str] = []

    def cells(self) -> list[Cell]:
        """Return all cells, bases outermost and seeds innermost."""
        labels = [x for x in self.declared.methods if x in self.study.only or not self.study.only]
        cells = []
        with searching(self.study.search):
            for base in self.declared.bases:
                for dataset in self.declared.datasets:
                    blocks = self.blocks(base, dataset)
                    cells += [self.cell(block, label) for label in labels for block in blocks]
        search = self.study.search
        problems = [*search.absent, *self.problems, *search.problems()]
        if problems:
            raise StudyError(list(dict.fromkeys(problems)))
        return cells

    def blocks(self, base: str, dataset: str) -> list[Block]:
        """Return one block a seed, or none where the base or dataset refuses."""
        spec = self.declared.bases[base]
        self.study.search.asker = f"bases.{base}"
        if spec.path is not None:
            spec = spec.model_copy(update={"path": str(self.study.search.place(spec.path))})
        try:
            policy = base_policy(base, spec.model_dump(exclude_none=True))
        except Exception as error:
            self.problems.append(f"bases.{base}: {said(error)}")
            return []
        try:
            return [self.block(base, policy, dataset, seed) for seed in self.declared.seeds]
        except Exception as error:
            self.problems.append(f"datasets.{dataset}: {said(error)}")
            return []

    def block(self, label: str, base: Policy, dataset: str, seed: int) -> Block:
        """Return what every method of one base, dataset and seed starts from."""
        self.study.search.asker = f"datasets.{dataset}"
        data = self.call("datasets", dataset, base, seed)
        sft_seed, sft_data = seed, data
        if self.study.sft_seed is not None:
            sft_seed = self.study.sft_seed
            sft_data = self.call("datasets", dataset, base, sft_seed)
        sft = finetune(
            base,
            sft_data.demonstrations,
            **self.declared.sft,
            seed=derived_seed(sft_seed, "sft"),
        )
        labeller, judge = self.judge("labeller", data), self.judge("judge", data)
        self.problems += of_labeller(judge, labeller, self.declared.same_judge)
        shared = Shared(
            base=base,
            sft=sft,
            demonstrations=data.demonstrations,
            preferences=data.preferences(sft),
            prompts=data.prompts,
            validation=data.validation,
            labeller=labeller,
            assistant=data.assistant,
            annotator=data.annotator,
            pretraining=data.pretraining,
            max_new_tokens=self.declared.evaluation.max_new_tokens,
            seed=seed,
            constitution=self.declared.constitution,
        )
        return Block(label, dataset, seed, shared, data, judge, self.draw(sft, shared, data))

    def judge(self, section: str, data: Data) -> Judge | None:
        """Return the labeller or the judge of the study, None where it names none."""
        table = getattr(self.declared, section)
        if table is None:
            return None
        self.study.search.asker = section
        try:
            made: Judge = registry.get("judge", table["plugin"])(
                data, **self.settings_of(table, "plugin")
            )
        except Exception as error:
            self.problems.append(f"{section}: {said(error)}")
            return None
        return made

    def draw(self, policy: Policy, shared: Shared, data: Data) -> dict[str, Samples]:
        """Return a policy's answers to the test prompts, one artifact a decoding.

        The seed is the same for all methods, so their draws are paired prompt by prompt.
        """
        evaluation = self.declared.evaluation
        return {
            decoding_name(temperature): sample(
                policy,
                data.test,
                n=evaluation.samples if temperature > 0 else 1,
                temperature=temperature,
                max_new_tokens=evaluation.max_new_tokens,
                seed=shared.seed_for("evaluation"),
            )
            for temperature in evaluation.temperatures
        }

    def cell(self, block: Block, label: str) -> Cell:
        """Return one cell: the method called, its answers drawn, every suite called."""
        table = self.declared.methods[label]
        name = table.get("method", label)
        try:
            policy = self.call("methods", label, with_setup(block.shared, table))
            if not isinstance(policy, Policy):
                raise TypeError(f"a method returns a Policy, not {policy!r}")
            if AT_CHECKPOINT in table:
                policy = reached(policy, table[AT_CHECKPOINT])
            else:
                policy = selected(policy, block.shared, self.declared.selection)
        except Exception as error:
            policy = self.excuse(unplanned_policy, f"methods.{label}", error)
        self.problems += of_training(label, policy, block.judge, self.declared.same_judge)
        samples = self.draw(policy, block.shared, block.data)
        subject = Subject(
            policy=policy,
            base=block.shared.base,
            sft=block.shared.sft,
            samples=samples,
            opponent=block.opponent,
            test=block.data.test,
            truth=block.data.truth,
            probes=block.data.probes,
            heldout=block.data.heldout,
            judge=block.judge,
            seed=block.seed,
        )
        scores = {suite: self.score(suite, subject) for suite in self.declared.evaluation.suites}
        return Cell(
            study=self.study.name,
            base=block.base,
            dataset=block.dataset,
            label=label,
            method=name,
            seed=block.seed,
            policy=policy,
            samples=samples,
            scores=scores,
            shared=block.shared,
            data=block.data,
        )

    def score(self, suite: str, subject: Subject) -> Scores:
        """Return what one suite would measure on a subject."""
        settings = self.settings_of(self.declared.evaluation.settings.get(suite, {}), "")
        self.study.search.asker = f"evaluation.suites.{suite}"
        try:
            made = registry.get("suite", suite)(subject, **settings)
            if not isinstance(made, Scores):
                raise TypeError(f"a suite returns Scores, not {made!r}")
        except Exception as error:
            return self.excuse(unplanned_scores, f"evaluation.suites.{suite}", error)
        return made

    def call(self, section: str, label: str, *given: Any) -> Any:
        """Return what a plugin plans from a table of the study."""
        key, kind = SECTIONS[section]
        table = getattr(self.declared, section)[label]
        settings = self.settings_of(table, key)
        return registry.get(kind, table.get(key, label))(*given, **settings)

    def settings_of(self, table: Mapping[str, Any], key: str) -> dict[str, Any]:
        """Return a table without the key that names its plugin, its path beside the study's."""
        ours = (key, LORA, AT_CHECKPOINT)
        settings = {name: value for name, value in table.items() if name not in ours}
        if isinstance(settings.get("path"), str):
            settings["path"] = str(self.study.search.place(settings["path"]))
        return settings

    def excuse(self, stand_in: Callable[..., T], path: str, error: Exception) -> T:
        """Return an artifact that fails with the reason, and note a refusal as a problem."""
        if isinstance(error, registry.UnknownNameError) and self.study.broken:
            reason = "\n".join([str(error), *self.study.broken.values()])
        elif isinstance(error, ValueError):
            each = error.problems if isinstance(error, ConstitutionError) else (str(error),)
            self.problems += [f"{path}: {problem}" for problem in each]
            reason = str(error)
        else:
            reason = "".join(traceback.format_exception(error))
        return stand_in(plugin=path, reason=reason[-LONGEST_REASON:])


def decoding_name(temperature: float) -> str:
    """Return how reports name a decoding: `greedy`, or `T=1`."""
    return f"T={temperature:g}" if temperature > 0 else "greedy"


def said(error: Exception) -> str:
    """Return an exception as a line of a list of problems."""
    known = isinstance(error, ValueError | OSError)
    return str(error) if known else f"{type(error).__name__}: {error}"
