"""Settings of a study that change nothing, since others of the same row leave them without use."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from harness import registry
from harness.adapters import with_setup
from harness.artifacts import Policy
from harness.differences import other_values
from harness.sources import searching
from harness.study import Cell, Planning, Study


def inert_settings(study: Study, cells: Iterable[Cell]) -> dict[str, list[str]]:
    """Return by label the declared settings of which no other value would plan another policy.

    Such as a learning rate of PPO in a row that stops before PPO. Only values that plan count:
    where a method refuses all that are tried, nothing is said of the setting.
    """
    first = {cell.label: cell for cell in reversed(list(cells))}
    with searching(study.search):
        found = {
            label: [name for name in declared(study, label) if is_inert(study, first[label], name)]
            for label in reversed(first)
        }
    return {label: names for label, names in found.items() if names}


def declared(study: Study, label: str) -> Mapping[str, Any]:
    """Return the settings of its method that a row of the study names."""
    return Planning(study).settings_of(study.declared.methods[label], "method")


def is_inert(study: Study, cell: Cell, name: str) -> bool:
    """Say whether a row plans the same policy whatever one of its settings is."""
    plugin = registry.PLUGINS.get(("method", cell.method))
    if plugin is None:
        return False
    given = declared(study, cell.label)
    shared = with_setup(cell.shared, study.declared.methods[cell.label])

    def plan(value: Any) -> Policy | None:
        try:
            made: Policy = plugin(shared, **{**given, name: value})
        except Exception:  # a refusal, or a fault that is told where the row itself is planned
            return None
        return made

    tried = (plugin.settings[name].default, *other_values(plugin.settings[name], given[name]))
    others = {plan(value) for value in tried if value != given[name]} - {None}
    return others == {plan(given[name])}
