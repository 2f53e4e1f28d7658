"""Find a judge that grades its own work: one model that judges and also labels or rewards.

Another principle, template or place of the same weights is the same judge: what a model favours, it
favours in every role (Zheng et al. 2023, arXiv:2306.05685, section 3.3).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass

from harness.artifacts import Policy, RewardModel
from harness.endpoint import Endpoint
from harness.judge import Judge
from harness.local import LocalFolder
from harness.stage import Artifact

REMEDY = "name another, or say same_judge = true"


def of_labeller(judge: Judge | None, labeller: Judge | None, allowed: bool) -> list[str]:
    """Return the problem of a judge that is the labeller, or asks the same model."""
    if judge is None or labeller is None or allowed:
        return []
    if judge == labeller:
        return [f"judge: equal to the labeller, which would grade its own labels; {REMEDY}"]
    both = models_of(judge) & models_of(labeller)
    said = f"judge: asks {', '.join(sorted(both))}, as the labeller does"
    return [f"{said}, and would grade its own labels; {REMEDY}"] if both else []


def of_training(label: str, policy: Artifact, judge: Judge | None, allowed: bool) -> list[str]:
    """Return the problem of a judge that a row's policy was optimised against or labelled by."""
    if judge is None or allowed:
        return []
    models = models_of(judge)
    for artifact, other in judges_behind(policy):
        if other == judge or models & models_of(other):
            return [
                f"methods.{label}: {artifact.id} is made with the study's judge, which would then "
                f"grade its own work; {REMEDY}"
            ]
    return []


def models_of(judge: Judge) -> frozenset[str]:
    """Return the models that a judge asks, by id, digest or name; a rule asks none."""
    return frozenset(named(judge))


def asks_the_same_model(judge: Judge, other: Judge | None) -> bool:
    """Say whether two judges ask one model, whatever they ask it."""
    return other is not None and bool(models_of(judge) & models_of(other))


def named(value: object) -> Iterator[str]:
    """Yield every model that stands in a value, depth first."""
    if isinstance(value, Policy | RewardModel):
        yield value.id
    elif isinstance(value, LocalFolder):
        yield f"the model {value.sha256[:12]}"
    elif isinstance(value, Endpoint):
        yield f"the served model {value.model}"
    elif is_dataclass(value) and not isinstance(value, type):
        for field in fields(value):
            yield from named(getattr(value, field.name))
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from named(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from named(item)


def own_rows(judge: Judge, rows: Mapping[str, Artifact]) -> list[str]:
    """Return the labels of the policies that come from a model which the judge asks."""
    models = models_of(judge)
    return [label for label, policy in rows.items() if models & models_behind(policy)]


def models_behind(made: Artifact) -> frozenset[str]:
    """Return the policies and model folders that a policy's weights come from, its own included.

    Judges and data on the way are no ancestors: what they taught is not what they are.
    """
    found: set[str] = set()
    waiting = [made]
    while waiting:
        artifact = waiting.pop()
        if artifact.id in found:
            continue
        found.add(artifact.id)
        for value in artifact.recipe.arguments.values() if artifact.recipe else ():
            if isinstance(value, LocalFolder):
                found |= set(named(value))
            elif isinstance(value, Policy):
                waiting.append(value)
    return frozenset(found)


def judges_of(artifact: Artifact) -> list[Judge]:
    """Return the judges that the stage which makes an artifact asks."""
    given = artifact.recipe.arguments.values() if artifact.recipe else ()
    return [value for value in given if isinstance(value, Judge)]


def judges_behind(made: Artifact) -> Iterator[tuple[Artifact, Judge]]:
    """Yield every judge in the recipes of an artifact and of all that it is made from."""
    waiting, seen = [made], {made.id}
    while waiting:
        artifact = waiting.pop()
        for judge in judges_of(artifact):
            yield artifact, judge
        for needed in artifact.inputs:
            if needed.id not in seen:
                seen.add(needed.id)
                waiting.append(needed)
