"""The claims that the conformance suite examines; see `harness.checks` for how to run them.

Each is a function of the evidence about one plugin whose docstring is the claim. It raises
CheckFailed with the remedy where the claim is false.
"""

from __future__ import annotations

import inspect
import itertools
import math
import re

from harness.artifacts import Rows, Samples, Scores
from harness.evidence import SEED, CheckFailed, Evidence, is_needed
from harness.run import in_order
from harness.stage import coerce, plain
from harness.tiny import tiny_base, tiny_data, tiny_sft, tiny_shared

PAPER = re.compile(r"arXiv:\d{4}\.\d{4,5}|doi:10\..+|https://.+")
AXES = ("helpfulness", "safety", "capability", "diagnostics")


def demand(holds: object, message: str) -> None:
    """Raise CheckFailed with the message unless it holds."""
    if not holds:
        raise CheckFailed(message)


def is_documented(evidence: Evidence) -> None:
    """The docstring's first line is a sentence about the result; a method names its paper."""
    plugin = evidence.plugin
    demand(plugin.summary, f"{plugin.name!r} has no docstring; write one sentence about the result")
    demand(
        plugin.summary.endswith("."),
        f"{plugin.name!r}: end the docstring's first line, {plugin.summary!r}, as a sentence",
    )
    if plugin.kind == "method":
        demand(
            plugin.paper and PAPER.fullmatch(plugin.paper),
            f"method {plugin.name!r}: paper={plugin.paper!r}; write arXiv:NNNN.NNNNN, doi:10... or "
            "an https address",
        )


def has_typed_plain_settings(evidence: Evidence) -> None:
    """Every setting is a named keyword with a type; its default is plain data of that type."""
    plugin = evidence.plugin
    parameters = inspect.signature(plugin.function).parameters
    for name, setting in plugin.settings.items():
        kind = parameters[name].kind
        demand(
            kind in (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY),
            f"{plugin.name!r} takes {kind.description} {name!r}; name each setting",
        )
        demand(
            parameters[name].annotation is not inspect.Parameter.empty,
            f"{plugin.name!r}: give setting {name!r} a type",
        )
        if is_needed(setting):
            demand(
                plugin.kind != "method",
                f"method {plugin.name!r}: give {name!r} the paper's default, or one with a reason",
            )
            continue
        try:
            coerced = coerce(setting.default, setting.annotation, f"{plugin.name}.{name}")
            plain(coerced)
        except (TypeError, ValueError) as error:
            raise CheckFailed(str(error)) from None
        demand(
            type(coerced) is type(setting.default),
            f"{plugin.name}.{name}: write the default {setting.default!r} as {coerced!r}",
        )


def has_the_same_id_in_a_fresh_process(evidence: Evidence) -> None:
    """A new interpreter with another hash seed plans the same ids."""
    here, there = [a.id for a in evidence.planned], evidence.fresh["ids"]
    demand(
        here == there,
        f"planned {here} here and {there} in a fresh process: something other than the settings "
        "enters, such as the time, a set's order or a random draw",
    )


def plans_without_torch_or_writing(evidence: Evidence) -> None:
    """Planning imports no heavy library and writes no file."""
    heavy, writes = evidence.fresh["heavy"], evidence.fresh["writes"]
    demand(
        not heavy,
        f"planning imports {', '.join(heavy)}; import it inside the stage body that uses it",
    )
    demand(not writes, f"planning writes: {'; '.join(writes)}; do it inside a stage")


def is_changed_by_every_setting(evidence: Evidence) -> None:
    """Another value of each setting changes ids and the bytes of what is made."""
    reasons = {name: evidence.changes[name] for name in evidence.changed_settings}
    wrong = [f"{name}: {reason}" for name, reason in reasons.items() if reason]
    demand(
        not wrong,
        f"settings of {evidence.plugin.name!r} that change nothing: {'; '.join(wrong)}. Drop them, "
        "or let them reach a stage",
    )


def reaches_ids_by_every_setting(evidence: Evidence) -> None:
    """Another value of each setting changes an id."""
    for name in evidence.changed_settings:
        demand(
            any(found != evidence.planned for found in evidence.other_plans(name)),
            f"{evidence.plugin.name}.{name} changes no id; drop it, or let it reach a stage",
        )


def draws_by_the_seed(evidence: Evidence) -> None:
    """Another seed of the cell changes what is made, where the method draws at all."""
    reason = evidence.changes.get(SEED, "")
    demand(not reason, f"shared.seed: {reason}; pass shared.seed or shared.seed_for(...) to stages")


def descends_from_the_shared_base(evidence: Evidence) -> None:
    """The policy is the shared base, or made from it."""
    demand(
        tiny_shared(0).base in in_order(list(evidence.planned)),
        "the policy does not descend from shared.base; start from shared.sft or shared.base",
    )


def never_touches_held_out_prompts(evidence: Evidence) -> None:
    """No test prompt stands in anything that the policy is made from."""
    test = tiny_data().test
    used = in_order(list(evidence.planned))
    demand(test not in used, f"the policy is made from the test prompts {test.id}")
    held_out = conversations(evidence.first.open(test))
    for artifact in used:
        if isinstance(artifact, Rows) and "messages" in artifact.columns:
            touched = held_out & conversations(evidence.first.open(artifact))
            demand(not touched, f"{artifact.id} holds test prompts: {', '.join(sorted(touched))}")


def conversations(rows: Rows) -> set[str]:
    """Return the conversation of each row, as text."""
    return {
        "\n".join(f"{turn['role']}: {turn['content']}" for turn in row["messages"]) for row in rows
    }


def runs_on_the_tiny_study(evidence: Evidence) -> None:
    """Everything that it plans can be made, and rows have the columns of their kind."""
    for artifact in evidence.planned:
        made = evidence.first.open(artifact)
        if isinstance(made, Rows):
            missing = {name for row in made for name in made.columns if name not in row}
            demand(not missing, f"{made.id}: rows lack {', '.join(sorted(missing))}")


def generates(evidence: Evidence) -> None:
    """The policy answers every prompt it never saw."""
    asked = evidence.first.open(tiny_data().test).rows()
    drawn = evidence.first.open(evidence.targets[1])
    assert isinstance(drawn, Samples)
    answered = [row["prompt_id"] for row in drawn if row["token_ids"]]
    demand(
        sorted(answered) == sorted(row["prompt_id"] for row in asked),
        f"{len(answered)} answers to {len(asked)} prompts",
    )


def remakes_the_same_bytes(evidence: Evidence) -> None:
    """Made anew by other processes, every artifact has the same bytes on CPU."""
    for artifact in in_order(list(evidence.targets)):
        made = [store.manifest(artifact.id) for store in (evidence.first, evidence.again)]
        digests = [{n: f["sha256"] for n, f in m["files"].items()} if m else {} for m in made]
        files = [name for name in digests[0] if digests[0][name] != digests[1].get(name)]
        demand(
            digests[0] == digests[1],
            f"{artifact.id} differs when made again: {', '.join(files)}; take every draw from the "
            "stage's seed, and write no time and no path",
        )


def scores_as_declared(evidence: Evidence) -> None:
    """Rows carry the declared metrics, all of them and no other, inside their ranges."""
    plugin = evidence.plugin
    demand(plugin.axis in AXES, f"axis {plugin.axis!r}: one of {', '.join(AXES)}")
    declared = {metric.name: metric for metric in plugin.metrics}
    (planned,) = evidence.planned
    scores = evidence.first.open(planned)
    assert isinstance(scores, Scores)
    seen = set()
    for row in scores:
        metric = declared.get(row["metric"])
        demand(metric, f"metric {row['metric']!r} is not declared in @suite(metrics=...)")
        assert metric is not None
        seen.add(metric.name)
        demand(
            (row["suite"], row["axis"], row["higher_is_better"])
            == (plugin.name, plugin.axis, metric.higher_is_better),
            f"a row of {metric.name} says another suite, axis or direction than is declared",
        )
        low, high = metric.range
        value = row["value"]
        demand(
            value is None or (math.isfinite(value) and low <= value <= high),
            f"{metric.name} = {value} is outside its declared range [{low}, {high}]",
        )
    demand(seen == set(declared), f"no row for {', '.join(sorted(set(declared) - seen))}")


def keeps_splits_apart(evidence: Evidence) -> None:
    """No prompt stands in two of: training (of every kind), validation, test."""
    base = tiny_sft(tiny_base(seed=0), tiny_data())
    data = evidence.plugin(base, 0, **evidence.settings)
    parts: dict[str, list[Rows]] = {
        "training": [data.demonstrations, data.prompts, data.preferences(tiny_sft(base, data))],
        "validation": [data.validation],
        "test": [data.test],
    }
    prompts = {
        name: set().union(*(conversations(evidence.first.open(rows)) for rows in group))
        for name, group in parts.items()
    }
    for one, two in itertools.combinations(prompts, 2):
        both = prompts[one] & prompts[two]
        demand(not both, f"prompts stand in {one} and in {two}: {sorted(both)[:3]}")


def grades_with_numbers(evidence: Evidence) -> None:
    """Every answer gets a finite grade, and every pair a probability."""
    graded, labels = (evidence.first.open(artifact) for artifact in evidence.planned)
    assert isinstance(graded, Rows)
    assert isinstance(labels, Rows)
    demand(all(math.isfinite(row["reward"]) for row in graded), "a grade is not a finite number")
    demand(all(0 <= row["p1"] <= 1 for row in labels), "a preference is no probability in [0, 1]")
