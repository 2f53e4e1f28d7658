"""What a study declares, what its datasets left out, and how its labellers labelled: facts."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from harness import registry
from harness.adapters import LORA
from harness.run import in_order
from harness.stage import plain

if TYPE_CHECKING:
    from harness.stage import Artifact
    from harness.study import Cell
    from harness.study_file import StudyFile

NOTED = ("read", "rows", "dropped", "digests")  # what a stage that reads rows says of them
NOT_PEOPLES = ("permuted", "oracle")  # labels that no person gave
PAIRED = ("pairs", "rankings")  # what is made of drawn answers
LABELLED = ("agreement_with_earlier_labels", "same_place_preferred")  # shares of the pairs


def declared_facts(
    declared: StudyFile, cells: Iterable[Cell], manifests: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """Return `datasets` and `whole_settings`, defaults included, by label; and `labelling`.

    With defaults in it, two datasets or rows can be compared setting by setting. A dataset's
    `notes` has one entry for each artifact that says what it read: rows by split, rows left out by
    reason, digests by split; its `paired` says the same of pairs and rankings that were made of
    drawn answers, by row and stage. `labelling` is of every artifact that a judge labelled,
    permuted and oracle labels aside: nobody agrees with the ones, and the others are no people's.
    """
    known = list(cells)
    datasets = {}
    for label, table in declared.datasets.items():
        mine = in_order([target for c in known if c.dataset == label for target in c.targets])
        datasets[label] = {
            "plugin": table.get("plugin", label),
            "settings": whole("dataset", table.get("plugin", label), table, "plugin"),
            "notes": notes(mine, manifests),
            "paired": paired([c for c in known if c.dataset == label], manifests),
        }
    rows = {
        label: whole("method", table.get("method", label), table, "method")
        for label, table in declared.methods.items()
    }
    told = [c for c in known if datasets[c.dataset]["settings"].get("labels") not in NOT_PEOPLES]
    return {"datasets": datasets, "whole_settings": rows, "labelling": labelling(told, manifests)}


def whole(kind: registry.Kind, name: str, table: Mapping[str, Any], key: str) -> dict[str, Any]:
    """Return all settings of a plugin as a table of a study has them, the defaults included."""
    plugin = registry.PLUGINS.get((kind, name))
    settings = plugin.settings if plugin else {}
    given = {
        setting.name: setting.default
        for setting in settings.values()
        if setting.default is not inspect.Parameter.empty
    }
    given |= {name: value for name, value in table.items() if name != key}
    return {name: value if name == LORA else plain(value) for name, value in given.items()}


def notes(
    artifacts: Iterable[Artifact], manifests: Mapping[str, Mapping[str, Any]]
) -> dict[str, dict[str, Any]]:
    """Return what the stages among some artifacts noted of the rows they read, by artifact."""
    facts = {a.id: manifests[a.id].get("facts", {}) for a in artifacts if a.id in manifests}
    return {
        id: {name: noted[name] for name in NOTED if name in noted}
        for id, noted in facts.items()
        if "dropped" in noted and isinstance(noted.get("rows"), Mapping)  # a benchmark's is a list
    }


def paired(
    cells: Iterable[Cell], manifests: Mapping[str, Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Return what became of drawn answers that were to be compared, and the rows that learnt.

    One entry a set of rows and a stage: `sets` it made, `kept` pairs or rankings, and how many were
    `dropped` by reason, summed over seeds and rounds.
    """
    users: dict[str, list[str]] = {}
    for cell in cells:
        for artifact in in_order([cell.policy]):
            facts = manifests.get(artifact.id, {}).get("facts", {})
            if "dropped" in facts and any(kind in facts for kind in PAIRED):
                rows = users.setdefault(artifact.id, [])
                rows += [cell.label] if cell.label not in rows else []
    found: dict[tuple[str, ...], dict[str, Any]] = {}
    for id, rows in users.items():
        facts, name = manifests[id]["facts"], id.rpartition("-")[0]
        empty = {"rows": rows, "stage": name, "sets": 0, "kept": 0, "dropped": {}}
        one = found.setdefault((name, *rows), empty)
        one["sets"] += 1
        one["kept"] += sum(facts.get(kind, 0) for kind in PAIRED)
        for reason, count in facts["dropped"].items():
            one["dropped"][reason] = one["dropped"].get(reason, 0) + count
    return list(found.values())


def labelling(
    cells: Iterable[Cell], manifests: Mapping[str, Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Return how a judge labelled each set of pairs, and the rows that learnt from them.

    Shares are of the pairs with two verdicts or with an earlier label, `decided` says of how many
    each is; a share that the stage could not tell is absent.
    """
    found: dict[str, dict[str, Any]] = {}
    for cell in cells:
        for artifact in in_order([cell.policy]):
            facts = manifests.get(artifact.id, {}).get("facts", {})
            shares = {name: facts[name] for name in LABELLED if name in facts}
            if shares and "pairs" in facts:
                known = {"artifact": artifact.id, "pairs": facts["pairs"], **shares, "rows": []}
                known["decided"] = facts.get("decided", {})
                rows = found.setdefault(artifact.id, known)["rows"]
                if cell.label not in rows:
                    rows.append(cell.label)
    return list(found.values())
