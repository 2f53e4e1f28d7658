"""What a plugin plans and makes on the tiny study, gathered once for all its checks."""

from __future__ import annotations

import importlib
import inspect
import json
import os
import shutil
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

from harness import registry
from harness.artifacts import Policy
from harness.differences import difference, other_values, stage_of
from harness.registry import Plugin, Setting
from harness.run import in_order, run
from harness.shared import Data
from harness.stage import Artifact
from harness.stages.label import label
from harness.stages.sample import score
from harness.store import Store
from harness.tiny import (
    TINY_WORLD,
    answers,
    tiny_base,
    tiny_data,
    tiny_rates,
    tiny_sft,
    tiny_shared,
    tiny_sizes,
    tiny_subject,
)

HEAVY = ("torch", "transformers", "trl", "peft", "datasets", "lm_eval", "pandas", "seaborn")
# What an audit hook sees of a process that changes files.
WRITING = ("os.mkdir", "os.rename", "os.remove", "os.link", "os.symlink", "os.truncate")
WORKERS = os.cpu_count() or 1
SEED = "the seed"  # no setting's name has a space


class CheckFailed(AssertionError):  # noqa: N818  (pytest shows assertion errors in full)
    """A plugin breaks its contract; the message says where, and what to do."""


def plan(plugin: Plugin, settings: Mapping[str, Any], seed: int = 0) -> tuple[Artifact, ...]:
    """Return what a plugin plans on the tiny study: a policy, scores, the parts of a dataset.

    A judge plans nothing itself, so it stands with the grades and the labels that it would give.
    """
    if plugin.kind == "method":
        return (expect(plugin(tiny_shared(seed), **settings), Policy, plugin),)
    if plugin.kind == "suite":
        return (expect(plugin(tiny_subject(), **settings), Artifact, plugin),)
    base = tiny_base(seed=0)
    if plugin.kind == "dataset":
        base = tiny_sft(base, tiny_data())  # it ends its answers, so that some make pairs
        data = expect(plugin(base, seed, **settings), Data, plugin)
        return parts(data, tiny_sft(base, data))
    world: Data = registry.get("dataset", "hamlet")(base, 0, **TINY_WORLD)
    judge = plugin(world, **settings)
    drawn = answers(base, world.test, n=2)
    labels = label(drawn, judge=judge, axis="helpful", source="ai")
    return (score(drawn, judge=judge), labels)


def expect(made: Any, kind: type[Any], plugin: Plugin) -> Any:
    """Return what a plugin returned; raise CheckFailed where it is of another kind."""
    if not isinstance(made, kind):
        raise CheckFailed(f"{plugin.kind} {plugin.name!r} returned {made!r}, not a {kind.__name__}")
    return made


def parts(data: Data, sft: Policy) -> tuple[Artifact, ...]:
    """Return every artifact that a dataset offers, preferences first."""
    offered = [getattr(data, f.name) for f in fields(data)]
    return (data.preferences(sft), *(part for part in offered if isinstance(part, Artifact)))


class Evidence:
    """One plugin under given settings: its plan here and in a fresh process, and what it makes."""

    def __init__(self, plugin: Plugin, settings: Mapping[str, Any], values: Mapping[str, Any]):
        self.plugin = plugin
        self.settings = {**tiny_rates(plugin), **tiny_sizes(plugin), **settings}
        self.values = dict(values)
        self.failures: dict[str, CheckFailed] = {}

    @cached_property
    def folder(self) -> Path:
        """A folder of its own, removed with the evidence."""
        folder = tempfile.mkdtemp(prefix="checks-")
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        return Path(folder)

    @property
    def file(self) -> Path:
        """The file that defines the plugin."""
        return Path(self.plugin.function.__code__.co_filename).resolve()

    @cached_property
    def planned(self) -> tuple[Artifact, ...]:
        """What the plugin plans with seed 0."""
        return plan(self.plugin, self.settings)

    @property
    def own(self) -> list[Artifact]:
        """What it plans beyond what every method of the cell is given."""
        shared = tiny_shared(0)
        given = [getattr(shared, f.name) for f in fields(shared)]
        common = in_order([part for part in given if isinstance(part, Artifact)])
        return [a for a in in_order(list(self.planned)) if a not in common]

    @cached_property
    def fresh(self) -> dict[str, Any]:
        """What a new interpreter plans, in an empty folder, with another hash seed."""
        function = self.plugin.function
        asked = {
            "kind": self.plugin.kind,
            "name": self.plugin.name,
            "settings": self.settings,
            "module": function.__module__,
            "file": str(self.file),
        }
        environment = {
            **os.environ,
            "PYTHONHASHSEED": "4711",
            "PYTHONPATH": os.pathsep.join(sys.path),
        }
        with tempfile.TemporaryDirectory() as empty:
            done = subprocess.run(
                [sys.executable, "-B", "-c", "import harness.evidence as e; e.say_plan()"],
                input=json.dumps(asked),
                capture_output=True,
                text=True,
                cwd=empty,
                env=environment,
                check=False,
            )
        if done.returncode:
            raise CheckFailed(f"planning it in a fresh process fails:\n{done.stderr[-4000:]}")
        return dict(json.loads(done.stdout.splitlines()[-1]))

    @cached_property
    def first(self) -> Store:
        """A store in which the plan has been made, and beside it the plans that differ first."""
        beside = [target for other in self.variants.values() for target in other]
        return self.make("first", self.targets, beside)

    @cached_property
    def again(self) -> Store:
        """Another store in which the same plan has been made anew."""
        return self.make("again", self.targets)

    @property
    def targets(self) -> tuple[Artifact, ...]:
        """The plan, with a method's answers to the held-out prompts."""
        if self.plugin.kind != "method":
            return self.planned
        (policy,) = self.planned
        return (policy, answers(expect(policy, Policy, self.plugin), tiny_data().test))

    def make(
        self, name: str, targets: Sequence[Artifact], beside: Sequence[Artifact] = ()
    ) -> Store:
        """Return a store in which targets are made; raise CheckFailed with what went wrong.

        What stands `beside` is made with them and may fail.
        """
        if name in self.failures:  # one attempt tells: every check that needs it says the same
            raise self.failures[name]
        store = Store(self.folder / name)
        outcomes = run([*targets, *beside], store, workers=WORKERS, plugins=self.plugins)
        for artifact in in_order(targets):
            outcome = outcomes[artifact.id]
            if outcome.state not in ("done", "cached", "blocked"):
                failure = store.failure(artifact.id) or {}
                detail = failure.get("traceback") or outcome.reason
                said = f"{artifact.id} is {outcome.state} on the tiny study:\n{detail}"
                self.failures[name] = CheckFailed(said)
                raise self.failures[name]
        return store

    @property
    def plugins(self) -> tuple[Path, ...]:
        """The file to register in workers, none where the plugin is ours or part of a package."""
        code = self.plugin.function.__code__.co_filename
        alone = self.plugin.distribution == code and "." not in self.plugin.function.__module__
        return (self.file,) if alone else ()

    @property
    def changed_settings(self) -> list[str]:
        """The settings of which another value can be tried: all but files and the like."""
        return [
            name
            for name, setting in self.plugin.settings.items()
            if name in self.values or not is_needed(setting)
        ]

    def other_plans(self, name: str) -> Iterator[tuple[Artifact, ...]]:
        """Yield the plans under other values of one setting, those left out that it refuses."""
        setting = self.plugin.settings[name]
        default = self.settings.get(name, setting.default)
        others = [self.values[name]] if name in self.values else other_values(setting, default)
        for value in others:
            try:
                yield plan(self.plugin, {**self.settings, name: value})
            except (TypeError, ValueError, FileNotFoundError):
                continue

    @cached_property
    def others(self) -> dict[str, Iterator[tuple[Artifact, ...]]]:
        """Plans that differ in one setting, or in the cell's seed, where one is drawn by."""
        others = {name: self.other_plans(name) for name in self.changed_settings}
        seeded = any("seed" in stage_of(a).signature.parameters for a in self.own)
        if self.plugin.kind == "method" and seeded:
            others[SEED] = iter([plan(self.plugin, self.settings, seed=1)])
        return others

    @cached_property
    def variants(self) -> dict[str, tuple[Artifact, ...]]:
        """The first of those plans for each setting."""
        tried = {name: next(others, None) for name, others in self.others.items()}
        return {name: found for name, found in tried.items() if found is not None}

    @cached_property
    def changes(self) -> dict[str, str]:
        """What is wrong with how each setting, and the seed, changes what is made; "" if nothing.

        Values are tried until one changes something, those of all settings side by side.
        """
        reasons = dict.fromkeys(self.others, "no other value is accepted; give one by values={...}")
        candidates = self.variants
        store = self.first
        while candidates:
            reasons |= {
                name: difference(store, self.planned, other) for name, other in candidates.items()
            }
            tried = {name: next(self.others[name], None) for name in candidates if reasons[name]}
            candidates = {name: found for name, found in tried.items() if found is not None}
            beside = [target for other in candidates.values() for target in other]
            run(beside, store, workers=WORKERS, plugins=self.plugins)
        return reasons


@dataclass(frozen=True)
class Watch:
    """An audit hook's notes: every call by which this process wrote a file."""

    writes: list[str]

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Note an event that writes."""
        if event == "open":
            path, mode, flags = arguments
            writing = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
            if (isinstance(mode, str) and set(mode) & set("wax+")) or (flags or 0) & writing:
                self.writes.append(f"open {path}")
        elif event in WRITING:
            self.writes.append(f"{event} {arguments[0]}")


def say_plan() -> None:
    """Plan a plugin as standard input asks; print its ids, what it wrote and imported, as JSON."""
    asked = json.load(sys.stdin)
    registry.discover()
    if (asked["kind"], asked["name"]) not in registry.PLUGINS:
        if "." in asked["module"]:
            importlib.import_module(asked["module"])
        else:
            registry.import_file(Path(asked["file"]))
    watch = Watch([])
    sys.addaudithook(watch)
    planned = plan(registry.get(asked["kind"], asked["name"]), asked["settings"])
    found = {
        "ids": [artifact.id for artifact in planned],
        "writes": list(watch.writes),
        "heavy": [name for name in HEAVY if name in sys.modules],
    }
    print(json.dumps(found))


def is_needed(setting: Setting) -> bool:
    """Say whether a setting has no default."""
    return setting.default is inspect.Parameter.empty
