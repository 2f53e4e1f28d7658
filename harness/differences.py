"""Whether another value of a setting makes another product, and which other values to try."""

from __future__ import annotations

import json
import typing
from collections.abc import Iterator
from typing import Any, Literal

from harness.annotations import Examples, bare
from harness.registry import Setting
from harness.run import in_order
from harness.stage import Artifact, Stage
from harness.store import Store

NOT_BEHAVIOUR = ("curves.csv",)  # it repeats settings, such as the learning rate


def difference(store: Store, planned: tuple[Artifact, ...], other: tuple[Artifact, ...]) -> str:
    """Return why a plan is no different from the one under test, "" where it is.

    A difference counts when the stage it enters writes other bytes, and so does the product.
    """
    before = in_order(list(planned))
    new = [a for a in in_order(list(other)) if a not in before]
    if [a.id for a in planned] == [a.id for a in other]:
        return "no id changes: it reaches no stage"
    if any(store.manifest(a.id) is None for a in new):
        return "it could not be made"
    if new and not entered(store, before, new):  # nothing is new where a plan ends earlier
        same = ", ".join(a.id for a in new if known(a, before))
        return f"{same} has the same bytes as without it"
    if all(map(lambda a, b: behaviour(store, a) == behaviour(store, b), planned, other)):
        return "what the plugin returns has the same bytes as without it"
    return ""


def entered(store: Store, before: list[Artifact], new: list[Artifact]) -> bool:
    """Say whether any stage wrote other bytes from inputs that have the same bytes as before.

    Where the first stage that a setting enters has nothing to do yet, as a replay of earlier
    rounds in the first round, what follows is looked at.
    """
    written = {(stage_of(a), behaviour(store, a)) for a in before}
    alike = list(before)
    for artifact in new:
        if known(artifact, alike):
            if (stage_of(artifact), behaviour(store, artifact)) not in written:
                return True
            alike.append(artifact)
    return False


def known(artifact: Artifact, before: list[Artifact]) -> bool:
    """Say whether all inputs of an artifact stand in `before`."""
    return all(needed in before for needed in artifact.inputs)


def stage_of(artifact: Artifact) -> Stage[Any, Any]:
    """Return the stage that makes an artifact."""
    assert artifact.recipe is not None
    return artifact.recipe.stage


def behaviour(store: Store, artifact: Artifact) -> str:
    """Return the digests of an artifact's files, those left out that only describe its making."""
    manifest = store.manifest(artifact.id)
    files = manifest["files"] if manifest else {}
    kept = {name: file["sha256"] for name, file in files.items() if name not in NOT_BEHAVIOUR}
    return json.dumps(kept, sort_keys=True)


def other_values(setting: Setting, default: Any) -> Iterator[Any]:
    """Yield values of a setting's type that differ from its default, likelier ones first.

    Those that the setting declares as `Examples` are the likeliest.
    """
    kind = bare(setting.annotation)
    options = [kind, *typing.get_args(kind)]
    guesses: tuple[Any, ...] = ()
    declared = [one for one in typing.get_args(setting.annotation)[1:] if isinstance(one, Examples)]
    if declared:
        guesses = declared[0].values
    elif typing.get_origin(kind) is Literal:
        guesses = tuple(options[1:])
    elif isinstance(default, bool):
        guesses = (not default,)
    elif isinstance(default, int):
        guesses = (2, default // 2 or 1, 1, default * 2)
    elif isinstance(default, float):
        guesses = (default / 2, default * 2) if default else (0.1, 1.0)
    elif isinstance(default, tuple) and default:
        guesses = (default[:-1] or default * 2, default[::-1], tuple(type(v)(1) for v in default))
    elif isinstance(default, str):
        guesses = (f"{default} briefly".strip(), default.upper())
    elif default is None:
        examples = {int: (2,), float: (0.5, 1e-3), str: ("briefly",), bool: (True, False)}
        guesses = tuple(value for option in options for value in examples.get(option, ()))
    yield from (value for value in guesses if value != default)
