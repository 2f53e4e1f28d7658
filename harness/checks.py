"""The conformance suite: what a plugin must keep so that its numbers mean what they say.

`run_matrix.py check my_method.py` prints it; in a plugin's own tests it is

    @pytest.mark.parametrize("check", checks_for("my_method"), ids=str)
    def test_conformance(check):
        check()

Checks run the plugin on the tiny study of `harness.tiny`, in worker processes, in seconds.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import registry
from harness.conformance import (
    descends_from_the_shared_base,
    draws_by_the_seed,
    generates,
    grades_with_numbers,
    has_the_same_id_in_a_fresh_process,
    has_typed_plain_settings,
    is_changed_by_every_setting,
    is_documented,
    keeps_splits_apart,
    never_touches_held_out_prompts,
    plans_without_torch_or_writing,
    reaches_ids_by_every_setting,
    remakes_the_same_bytes,
    runs_on_the_tiny_study,
    scores_as_declared,
)
from harness.evidence import CheckFailed, Evidence
from harness.registry import PLUGINS, Kind, Plugin, UnknownNameError, nearest

COMMON = (
    is_documented,
    has_typed_plain_settings,
    has_the_same_id_in_a_fresh_process,
    plans_without_torch_or_writing,
    runs_on_the_tiny_study,
)
CLAIMS: dict[Kind, tuple[Callable[[Evidence], None], ...]] = {
    "method": (
        *COMMON,
        generates,
        is_changed_by_every_setting,
        draws_by_the_seed,
        descends_from_the_shared_base,
        never_touches_held_out_prompts,
        remakes_the_same_bytes,
    ),
    "suite": (*COMMON, scores_as_declared, is_changed_by_every_setting, remakes_the_same_bytes),
    "dataset": (*COMMON, reaches_ids_by_every_setting, keeps_splits_apart, remakes_the_same_bytes),
    "judge": (*COMMON, grades_with_numbers, is_changed_by_every_setting, remakes_the_same_bytes),
}


@dataclass(frozen=True)
class Check:
    """One claim about one plugin. Calling it raises CheckFailed, with the remedy, if it is false.

    `excuse` is the written reason why it need not hold; then it must indeed not hold.
    """

    name: str
    evidence: Evidence
    claim: Callable[[Evidence], None]
    excuse: str = ""

    def __str__(self) -> str:
        return f"{self.evidence.plugin.name}-{self.name}"

    @property
    def says(self) -> str:
        """The claim in words."""
        return (inspect.getdoc(self.claim) or "").split("\n")[0]

    def __call__(self) -> None:
        """Examine the claim."""
        if not self.excuse:
            self.claim(self.evidence)
            return
        try:
            self.claim(self.evidence)
        except CheckFailed:
            return
        raise CheckFailed(f"{self} holds, so the exception ({self.excuse}) is not needed; drop it")


def checks_for(
    given: str | Path | Plugin,
    *,
    settings: Mapping[str, Any] | None = None,
    values: Mapping[str, Any] | None = None,
    exceptions: Mapping[str, str] | None = None,
) -> list[Check]:
    """Return the checks of a plugin, or of all that a name, file or module stands for.

    `settings` are what the plugin is checked under, `values` another value of a setting where none
    can be guessed, `exceptions` checks that need not hold, each with its reason. Raises
    UnknownNameError where nothing is meant, ValueError for an exception without check or reason.
    """
    excused = dict(exceptions or {})
    checks = []
    for plugin in meant(given):
        evidence = Evidence(plugin, settings or {}, values or {})
        for claim in CLAIMS[plugin.kind]:
            checks.append(Check(claim.__name__, evidence, claim, excused.get(claim.__name__, "")))
    names = [check.name for check in checks]
    for name, reason in excused.items():
        if name not in names:
            raise ValueError(f"no check {name!r} to except.{nearest(name, names)}")
        if not reason.strip():
            raise ValueError(f"write the reason why {name!r} need not hold")
    return checks


def meant(given: str | Path | Plugin) -> list[Plugin]:
    """Return the plugins that a plugin, a name, a file or a module stands for."""
    if isinstance(given, Plugin):
        return [given]
    registry.discover()
    if str(given).endswith(".py"):
        file = Path(given).resolve()
        registry.import_file(file)
        found = [p for p in PLUGINS.values() if Path(p.function.__code__.co_filename) == file]
    else:
        found = [p for p in PLUGINS.values() if p.name == str(given)] or in_module(str(given))
    if not found:
        names = sorted({plugin.name for plugin in PLUGINS.values()})
        raise UnknownNameError(f"no plugin in {given}.{nearest(str(given), names)}")
    return found


def in_module(name: str) -> list[Plugin]:
    """Return the plugins that an importable module defines."""
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name.split(".")[0]:
            raise
        return []
    return [p for p in PLUGINS.values() if f"{p.function.__module__}.".startswith(f"{name}.")]
