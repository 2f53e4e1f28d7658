"""Find what is wrong with the [tune] table of a study: its seeds, its ranges, its sizes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from harness.ranges import is_whole, overridden
from harness.registry import PLUGINS, Plugin, nearest
from harness.stage import coerce
from harness.study_file import shown, tables_of

Tables = Mapping[str, Mapping[str, Any]]


def tune_problems(raw: dict[str, Any]) -> Iterator[str]:
    """Yield tuning seeds that report, and ranges and sizes that fit no row and no dataset."""
    table = raw.get("tune")
    if not isinstance(table, dict):
        return
    reporting, tuning = raw.get("seeds"), table.get("seeds")
    if isinstance(reporting, list) and isinstance(tuning, list):
        both = [seed for seed in tuning if seed in reporting]
        if both:
            yield (
                f"tune.seeds = {shown(tuning)}: {both} report results too, and settings chosen on "
                "a seed favour it; tune on other seeds, such as 100"
            )
    yield from range_problems(dict(tables_of(raw, "methods")), table)
    yield from size_problems(dict(tables_of(raw, "datasets")), table)


def range_problems(rows: Tables, tune: Mapping[str, Any]) -> Iterator[str]:
    """Yield ranges of no row, and ranges that do not fit a setting."""
    for label, tables in tables_of(tune, "ranges"):
        if label not in rows:
            yield f"tune.ranges.{label}: the study has no such row.{nearest(label, rows)}"
            continue
        plugin = PLUGINS.get(("method", str(rows[label].get("method", label))))
        if plugin:
            try:
                overridden(plugin, {k: t for k, t in tables.items() if isinstance(t, dict)})
            except ValueError as error:
                yield f"tune.ranges.{label}: {error}"


def size_problems(datasets: Tables, tune: Mapping[str, Any]) -> Iterator[str]:
    """Yield datasets that the study lacks, and what is no size of one.

    Whole numbers alone, since trials are to answer to the annotators that the study has: with other
    labels, or less noise, settings would be chosen by what no run may see.
    """
    for label, table in tables_of(tune, "datasets"):
        path = f"tune.datasets.{label}"
        if label not in datasets:
            yield f"{path}: the study has no such dataset.{nearest(label, datasets)}"
            continue
        plugin = PLUGINS.get(("dataset", str(datasets[label].get("plugin", label))))
        if plugin is None:
            continue  # reported where the dataset is named
        for name, value in table.items():
            yield from size_problem(plugin, name, value, path)


def size_problem(plugin: Plugin, name: str, value: object, path: str) -> Iterator[str]:
    """Yield what is wrong with one size of a dataset."""
    sizes = [setting for setting in plugin.settings if is_whole(plugin, setting)]
    if name not in plugin.settings:
        yield f"{path}.{name}: dataset {plugin.name!r} has no such setting.{nearest(name, sizes)}"
    elif name not in sizes:
        yield (
            f"{path}.{name}: trials may have other sizes, and nothing else of a dataset; set "
            f"one of {', '.join(sizes)}, or change datasets.{path.rpartition('.')[2]}"
        )
    else:
        try:
            coerce(value, plugin.settings[name].annotation, f"{path}.{name}")
        except (TypeError, ValueError) as error:
            yield str(error)
