"""Find everything that is wrong with a study, at once and before any work.

The file is checked three times over: its shape by pydantic, its names by an allow-list, and every
plugin's settings against that plugin's own signature. Nothing here calls a plugin.
"""

from __future__ import annotations

import inspect
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from harness import registry
from harness.constitution import ConstitutionError
from harness.constitution_file import constitution
from harness.registry import PLUGINS, Kind, UnknownNameError, nearest
from harness.sources import current, missing_path
from harness.stage import coerce, plain
from harness.study_file import (
    AT_CHECKPOINT,
    NAME,
    Base,
    Evaluation,
    LoraTable,
    Overrides,
    Selection,
    StudyFile,
    Table,
    Tune,
    shown,
    tables_of,
)
from harness.tune_problems import tune_problems

DEVICES = {"con", "prn", "aux", "nul", *(f"{d}{n}" for d in ("com", "lpt") for n in range(10))}
# Which key of a table names its plugin, and what kind of plugin it is.
SECTIONS: dict[str, tuple[str, Kind]] = {
    "datasets": ("plugin", "dataset"),
    "methods": ("method", "method"),
}


def check(
    raw: dict[str, Any], folder: Path, overrides: Overrides, *, broken: bool = False
) -> list[str]:
    """Return every problem of the tables, each with its path, its value and the remedy.

    With `broken` plugin files about, an unknown method may be theirs: its cells fail, no more.
    """
    problems = [*shape_problems(raw), *name_problems(raw)]
    for section, (key, kind) in SECTIONS.items():
        for label, table in tables_of(raw, section):
            theirs = broken and kind == "method" and (kind, table.get(key, label)) not in PLUGINS
            if not theirs:
                problems += table_problems(table, f"{section}.{label}", key, kind, label, folder)
    for section in ("labeller", "judge"):
        if isinstance(raw.get(section), dict):
            problems += table_problems(raw[section], section, "plugin", "judge", None, folder)
    problems += evaluation_problems(raw.get("evaluation"), folder, broken=broken)
    problems += sft_problems(raw.get("sft", {}))
    problems += constitution_problems(raw.get("constitution", "hamlet"))
    problems += tune_problems(raw)
    for label, table in tables_of(raw, "bases"):
        problems += path_problems(table.get("path"), f"bases.{label}.path", folder)
    problems += repeated(raw)
    known = [label for label, _ in tables_of(raw, "methods")]
    for label in overrides.only:
        if label not in known:
            problems.append(
                f"--only {shown(label)}: no such method in this study."
                f"{nearest(label, known)} It has: {', '.join(known)}"
            )
    return problems


def shape_problems(raw: dict[str, Any]) -> Iterator[str]:
    """Yield unknown keys, wrong types and missing tables, as pydantic finds them."""
    for path, value in leaves(raw):
        if isinstance(value, float) and not math.isfinite(value):
            yield f"{path} = {value}: must be a finite number"
    yield from table_shape_problems(StudyFile, raw, ())


def table_shape_problems(
    model: type[Table], raw: object, above: tuple[int | str, ...]
) -> Iterator[str]:
    """Yield what pydantic finds wrong with one table, which stands at a place in the file."""
    try:
        model.model_validate_json(json.dumps(raw, default=str))
    except ValidationError as error:
        for found in error.errors():
            location = (*above, *found["loc"])
            path = ".".join(map(str, location))
            if found["type"] == "extra_forbidden":
                yield f"{path}: unknown key.{nearest(str(location[-1]), keys_beside(location))}"
            elif found["type"] == "missing":
                yield f"{path}: missing; a study needs it"
            elif not (isinstance(found["input"], float) and not math.isfinite(found["input"])):
                yield f"{path} = {shown(found['input'])}: {lowered(found['msg'])}"


def keys_beside(location: tuple[int | str, ...]) -> list[str]:
    """Return the keys that the table at an unknown key's place does have."""
    if location[2:3] == ("lora",):
        return list(LoraTable.model_fields)
    inside: dict[int | str, type[Table]] = {
        "evaluation": Evaluation,
        "bases": Base,
        "selection": Selection,
        "tune": Tune,
    }
    model = inside[location[0]] if len(location) > 1 else StudyFile
    return [field.alias or name for name, field in model.model_fields.items()]


def name_problems(raw: dict[str, Any]) -> Iterator[str]:
    """Yield names that could leave their folder, collide on some file system, or deceive."""
    named = [("name", raw["name"])] if isinstance(raw.get("name"), str) else []
    for section in ("bases", "datasets", "methods"):
        named += [(section, label) for label, _ in tables_of(raw, section)]
    for path, name in named:
        if name in DEVICES:
            yield f"{path}: {shown(name)} is a device name on Windows; choose another"
        elif not NAME.fullmatch(name):
            yield f"{path}: the name {shown(name)} must be at most 40 of a-z, 0-9, _ and -"


def table_problems(
    table: Mapping[str, Any], path: str, key: str, kind: Kind, label: str | None, folder: Path
) -> Iterator[str]:
    """Yield the problems of one plugin's table: its name, its settings, missing ones, files."""
    name = table.get(key, label)
    if not isinstance(name, str):
        yield f"{path}.{key} = {shown(name)}: must name a {kind}"
        return
    try:
        plugin = registry.get(kind, name)
    except UnknownNameError as error:
        where = f"{path}.{key}" if key in table else path
        yield f"{where}: {error}"
        return
    for setting, value in table.items():
        if setting == key:
            continue
        if setting == "lora" and kind == "method" and path.startswith("methods."):
            yield from lora_problems(value, tuple(path.split(".")))
            continue
        if setting == AT_CHECKPOINT and kind == "method" and path.startswith("methods."):
            continue  # whether the row keeps so many is known once it is planned
        if setting not in plugin.settings:
            hint = nearest(setting, [*plugin.settings, key])
            yield f"{path}.{setting}: {kind} {name!r} has no such setting.{hint}"
            continue
        try:
            coerce(value, plugin.settings[setting].annotation, f"{path}.{setting}")
        except (TypeError, ValueError) as error:
            yield str(error)
        if setting == "path":
            yield from path_problems(value, f"{path}.path", folder)
    for setting, declared in plugin.settings.items():
        if declared.default is inspect.Parameter.empty and setting not in table:
            yield f"{path}.{setting}: missing; {kind} {name!r} needs it"


def lora_problems(value: object, above: tuple[str, ...]) -> Iterator[str]:
    """Yield the problems of a row's own adapter, which is a table, or false for all weights."""
    if isinstance(value, dict):
        yield from table_shape_problems(LoraTable, value, (*above, "lora"))
    elif value is not False:
        yield (
            f"{'.'.join(above)}.lora = {shown(value)}: must be a table such as {{ rank = 16 }}, or "
            "false to train all weights"
        )


def path_problems(value: object, path: str, folder: Path) -> Iterator[str]:
    """Yield the problem of a local file or folder that is not there, unless the search notes it."""
    if isinstance(value, str):
        fetched = path.startswith("evaluation.settings.")  # the rows of a benchmark
        problem = missing_path(path, value, folder, fetched=fetched)
        if problem and not current().notes:
            yield problem


def evaluation_problems(table: object, folder: Path, *, broken: bool) -> Iterator[str]:
    """Yield suites, their settings and co-primary metrics that do not exist."""
    if not isinstance(table, dict):
        return
    listed = table.get("suites")
    suites = [s for s in listed if isinstance(s, str)] if isinstance(listed, list) else []
    for name in suites:
        try:
            registry.get("suite", name)
        except UnknownNameError as error:
            if not broken:
                yield f"evaluation.suites: {error}"
    settings = table.get("settings")
    for name, chosen in settings.items() if isinstance(settings, dict) else ():
        path = f"evaluation.settings.{name}"
        if name not in suites:
            yield f"{path}: the study has no such suite.{nearest(name, suites)}"
        elif isinstance(chosen, dict):
            named = {"plugin": name, **chosen}
            yield from table_problems(named, path, "plugin", "suite", None, folder)
    metrics = [
        name
        for suite in registry.plugins("suite")
        if suite.name in suites
        for name in (suite.name, *(metric.name for metric in suite.metrics))
    ]
    co_primary = table.get("co_primary", [])
    for name in co_primary if isinstance(co_primary, list) else ():
        if isinstance(name, str) and name not in metrics:
            yield (
                f"evaluation.co_primary: no suite or metric {shown(name)}.{nearest(name, metrics)} "
                f"Known: {', '.join(metrics)}"
            )


def constitution_problems(name: object) -> Iterator[str]:
    """Yield what is wrong with the constitution that a study names."""
    try:
        if isinstance(name, str):
            constitution(name)
    except ConstitutionError as error:
        yield from (f"constitution: {problem}" for problem in error.problems)


def sft_problems(table: object) -> Iterator[str]:
    """Yield settings that the SFT stage does not have, or not of that type."""
    if not isinstance(table, dict) or not table:
        return
    from harness.stages.finetune import finetune

    known = [key for key in finetune.signature.parameters if key not in ("policy", "data", "seed")]
    for key, value in table.items():
        if key not in known:
            yield f"sft.{key}: the stage 'finetune' has no such setting.{nearest(key, known)}"
            continue
        try:
            coerce(value, finetune.hints[key], f"sft.{key}")
        except (TypeError, ValueError) as error:
            yield str(error)


def repeated(raw: dict[str, Any]) -> Iterator[str]:
    """Yield what would make two equal cells: seeds, suites, or tables that say the same."""
    evaluation = raw.get("evaluation")
    lists = {"seeds": raw.get("seeds")}
    if isinstance(raw.get("tune"), dict):
        lists["tune.seeds"] = raw["tune"].get("seeds")
    if isinstance(evaluation, dict):
        lists |= {f"evaluation.{key}": evaluation.get(key) for key in ("suites", "temperatures")}
    for path, values in lists.items():
        listed = values if isinstance(values, list) else []
        seen = [json.dumps(value, default=str) for value in listed]
        for value in sorted({value for value in seen if seen.count(value) > 1}):
            yield f"{path}: {value} stands there twice"
    for section in ("bases", *SECTIONS):
        first: dict[str, str] = {}
        for label, table in tables_of(raw, section):
            same = first.setdefault(effective(section, label, table), label)
            if same != label:
                yield f"{section}.{label}: the same cells as {section}.{same}; drop one"
    judges = [raw.get(section) for section in ("labeller", "judge")]
    if all(isinstance(table, dict) for table in judges) and raw.get("same_judge") is not True:
        said = [effective("judge", "", table) for table in judges if isinstance(table, dict)]
        if said[0] == said[1]:
            yield (
                "judge: equal to the labeller, which would grade its own labels; "
                "name another, or say same_judge = true"
            )


def effective(section: str, label: str, table: Mapping[str, Any]) -> str:
    """Return what a table amounts to, defaults applied, as text that equal tables share."""
    key, kind = SECTIONS.get(section, ("plugin", "judge"))
    settings = dict(table)
    if section == "bases":
        name = "" if table else label
    else:
        name = str(settings.pop(key, label))
        plugin = PLUGINS.get((kind, name))
        for setting, declared in plugin.settings.items() if plugin else ():
            try:
                value = settings.get(setting, declared.default)
                settings[setting] = plain(coerce(value, declared.annotation, setting))
            except (TypeError, ValueError):
                continue  # reported where the setting is checked
    return json.dumps([name, settings], sort_keys=True, default=str)


def leaves(value: object, path: str = "") -> Iterator[tuple[str, object]]:
    """Yield every plain value of nested tables with its dotted path."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from leaves(item, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from leaves(item, path)
    else:
        yield path, value


def lowered(message: str) -> str:
    """Return pydantic's sentence as the end of ours."""
    return message[:1].lower() + message[1:]
