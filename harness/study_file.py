"""A study as its TOML file declares it: its tables, where it is found, what overrides it."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from harness.plain_text import one_line
from harness.registry import nearest

SHIPPED = Path(__file__).parent / "studies"
NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")
LONGEST = 1000  # characters of one problem
BYTES = 1_000_000  # a study file larger than this is none


AT_CHECKPOINT = "at_checkpoint"  # the key of a row that stands for a policy kept on the way


class InputError(ValueError):
    """Bad input from the command line: said without a traceback, exit code 2, nothing written."""


class StudyError(InputError):
    """A study that cannot be run; `problems` lists everything that is wrong with it."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = tuple(one_line(problem, longest=LONGEST) for problem in problems)
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        super().__init__("\n".join([f"{count} in the study:", *(f"  {p}" for p in self.problems)]))


class Table(BaseModel):
    """A table of the file: no unknown keys, no conversion of types, nothing changed later."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class LoraTable(Table):
    """An adapter in place of all weights: of a base, or of one row as `[methods.LABEL.lora]`."""

    rank: int = Field(16, ge=1, description="rank of the matrices A and B")
    alpha: float = Field(32.0, gt=0, description="B A is added alpha / rank times")
    targets: tuple[str, ...] = Field(
        (), description="layers by the end of their names; all linear layers where empty"
    )
    dropout: float = Field(0.0, ge=0, lt=1, description="dropout on what enters A; none in PPO")


class Base(Table):
    """Where a base model comes from, and how what descends from it is computed and trained.

    It is embedded (the label alone), a local folder, or on the hub at a commit.
    """

    path: str | None = Field(None, description="a local Hugging Face folder, beside the study")
    hub: str | None = Field(None, description="the model's name on the hub")
    revision: str | None = Field(None, description="its commit; needed with `hub`")
    dtype: Literal["float32", "bfloat16", "float16"] | None = Field(
        None, description="what its weights are kept in; else as the folder has them"
    )
    template: str | None = Field(
        None, description="chat template: `plain` or Jinja text; else the tokenizer's own"
    )
    attention: Literal["sdpa", "eager", "flash_attention_2"] | None = Field(
        None, description="how attention is computed; else as transformers chooses"
    )
    gradient_checkpointing: bool = Field(
        False, description="compute activations twice in place of keeping them"
    )
    remote_code: bool = Field(False, description="run the model's own Python; recorded")
    lora: LoraTable | None = Field(None, description="train adapters in place of all weights")


class Evaluation(Table):
    """What is drawn from every policy on the test prompts, and which suites read it."""

    suites: tuple[str, ...] = Field(min_length=1, description="names of suites")
    temperatures: tuple[Annotated[float, Field(ge=0, le=2)], ...] = Field(
        (1.0, 0.0), min_length=1, description="what answers are drawn at; 0 is greedy"
    )
    samples: int = Field(3, ge=1, le=1000, description="answers to a prompt above 0")
    max_new_tokens: int = Field(
        128, ge=1, description="longest answer in tokens, in training as in evaluation"
    )
    co_primary: tuple[str, ...] = Field(
        (), description="the suites or metrics that verdicts are about"
    )
    margin: float = Field(
        2.0, gt=0, description="points within which two rows count as equally good"
    )
    parity: Literal["badge", "refuse"] = Field(
        "badge", description="a row that did not hold equal what must be: mark it, or not compare"
    )
    settings: dict[str, dict[str, Any]] = Field(
        {}, description="settings of suites, as [evaluation.settings.SUITE]"
    )


Seed = Annotated[int, Field(ge=0, lt=2**31)]


class Tune(Table):
    """How many trials every row gets, with which seeds, at which sizes, and other ranges."""

    trials: int = Field(8, ge=1, le=1000, description="trials of every row that has ranges")
    seeds: tuple[Seed, ...] = Field(min_length=1, description="seeds that report nothing")
    ranges: dict[str, dict[str, dict[str, Any]]] = Field(
        {}, description="ranges in place of declared ones, as [tune.ranges.LABEL]"
    )
    datasets: dict[str, dict[str, Any]] = Field(
        {}, description="sizes of trials in place of a dataset's own, as [tune.datasets.LABEL]"
    )


class Selection(Table):
    """Which policy of a training run is a row's: the last, or the best of several by validation."""

    rule: Literal["last", "validation"] = Field(default="last", description="how it is chosen")
    candidates: int = Field(
        default=4, ge=2, le=100, description="how many: the last policy and the latest checkpoints"
    )


class StudyFile(Table):
    """The whole file, version 1."""

    version: Literal[1] = Field(alias="schema", description="version of this form")
    name: str = Field(description="name of the results folder: a-z, 0-9, _ and -")
    note: str = Field("", description="a sentence that the report says at its top")
    seeds: tuple[Seed, ...] = Field(
        min_length=1, description="independent repetitions of the whole pipeline, paired over rows"
    )
    share_sft: bool = Field(False, description="one SFT policy for all seeds, of the first one")
    same_judge: bool = Field(False, description="allow a judge that labels or rewards too")
    plugins: tuple[str, ...] = Field((), description="Python files beside the study, or modules")
    mirror: str | None = Field(
        None, description="a folder that `prepare` made, beside the study: no network is needed"
    )
    bases: dict[str, Base] = Field(min_length=1, description="base models under labels")
    datasets: dict[str, dict[str, Any]] = Field(
        min_length=1, description="[datasets.LABEL]: `plugin`, else the label, and its settings"
    )
    methods: dict[str, dict[str, Any]] = Field(
        min_length=1,
        description="[methods.LABEL]: `method`, else the label, its settings, and `at_checkpoint` "
        "for a policy that it keeps on the way",
    )
    sft: dict[str, Any] = Field({}, description="settings of the fine-tuning that rows start from")
    labeller: dict[str, Any] | None = Field(
        None, description="who gives AI feedback: `plugin` and its settings"
    )
    constitution: str = Field(
        "hamlet",
        description='principles that the labeller compares by where `feedback = "ai_principle"`: '
        "hamlet, general, null, or a YAML file beside the study",
    )
    judge: dict[str, Any] | None = Field(
        None, description="who judges in evaluation: `plugin` and its settings"
    )
    evaluation: Evaluation = Field(description="what is drawn and measured")
    selection: Selection = Field(Selection(), description="which checkpoint is a row's policy")
    tune: Tune | None = Field(None, description="what `tune` tries; `run` ignores it")


@dataclass(frozen=True)
class Overrides:
    """What the command line changes: labels to keep, other seeds, `table.key=value` settings."""

    only: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()
    settings: tuple[str, ...] = ()


def from_mirror(mirror: Path | None) -> tuple[str, ...]:
    """Return the setting by which a study reads from a mirror, none without one."""
    return () if mirror is None else (f"mirror={json.dumps(str(mirror.absolute()))}",)


def locate(name_or_path: str | Path) -> Path:
    """Return the file of a study given by path or by the name of a shipped one."""
    given = str(name_or_path)
    if "\0" in given:
        raise StudyError([f"STUDY: no file has the name {given!r}"])
    if NAME.fullmatch(given) and (SHIPPED / f"{given}.toml").is_file():
        return SHIPPED / f"{given}.toml"
    try:
        found = Path(given).is_file()
    except OSError:
        found = False
    if found:
        return Path(given)
    shipped = sorted(file.stem for file in SHIPPED.glob("*.toml"))
    hint = nearest(Path(given).stem, shipped)
    raise StudyError(
        [
            f"STUDY: no file {shown(given)} and no such shipped study.{hint} "
            f"Shipped: {', '.join(shipped)}"
        ]
    )


def read(file: Path) -> dict[str, Any]:
    """Return the file's tables as written; raise StudyError when it is no TOML."""
    try:
        content = file.read_bytes()
        if len(content) > BYTES:
            raise StudyError([f"{file}: {len(content):,} bytes are too many for a study"])
        return tomllib.loads(content.decode("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise StudyError([f"{file}: {error}"]) from None


def override(raw: dict[str, Any], overrides: Overrides) -> list[str]:
    """Change the raw tables as the command line says; return the problems of doing so."""
    problems = []
    for setting in overrides.settings:
        path, equals, text = setting.partition("=")
        *tables, key = path.strip().split(".")
        table: Any = raw
        for name in tables:
            table = table.setdefault(name, {}) if isinstance(table, dict) else None
        if not (equals and key and isinstance(table, dict)):
            problems.append(
                f"--set {shown(setting)}: write it as table.key=value, such as methods.dpo.beta=0.2"
            )
            continue
        try:
            table[key] = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            if re.fullmatch(r"[\w./-]+", text.strip()):
                table[key] = text.strip()  # a bare word is text: a shell eats the quotes
            else:
                problems.append(f"--set {shown(setting)}: {shown(text)} is no TOML value")
    if overrides.seeds:
        raw["seeds"] = list(overrides.seeds)
    return problems


def tables_of(raw: Mapping[str, Any], section: str) -> list[tuple[str, dict[str, Any]]]:
    """Return the label and table of each entry of a section that is well enough formed."""
    whole = raw.get(section)
    entries = whole.items() if isinstance(whole, dict) else ()
    return [(label, table) for label, table in entries if isinstance(table, dict)]


def shown(value: object) -> str:
    """Return a value as an error shows it: escaped, and cut when long."""
    text = ascii(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
