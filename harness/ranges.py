"""What tuning may try: ranges declared on a plugin's own settings, and settings drawn from them.

A range is the annotation of a setting, such as `beta: Annotated[float, LogRange(0.01, 1.0)] = 0.1`.
Every drawn value depends on the seed, the row, the trial and the setting's name alone, so that a
new setting, more trials or fewer rows change no other draw. A trial that an earlier one equals is
drawn again: it would count and tell nothing.
"""

from __future__ import annotations

import math
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from harness.registry import Plugin, nearest
from harness.shared import derived_seed
from harness.stage import coerce

DIGITS = 12  # significant digits of a drawn number, those that an id keeps
TRIES = 1000  # draws of one trial before its ranges are held to be exhausted


@dataclass(frozen=True)
class Range:
    """Every number from low to high, both ends included, equally likely; whole for an int."""

    low: float
    high: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise ValueError(f"{self}: the low end must be finite and below the high end")

    def at(self, uniform: float, *, whole: bool) -> float:
        """Return the value at a share of the range; `uniform` is in [0, 1)."""
        if whole:
            count = math.floor(self.high) - math.ceil(self.low) + 1
            return math.ceil(self.low) + int(uniform * count)
        return rounded(self.low + uniform * (self.high - self.low))


@dataclass(frozen=True)
class LogRange(Range):
    """Every number from low to high, each factor of the same size equally likely."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.low <= 0:
            raise ValueError(f"{self}: a logarithm needs numbers above 0; use Range")

    def at(self, uniform: float, *, whole: bool) -> float:
        """Return the value at a share of the range's logarithm; `uniform` is in [0, 1)."""
        if whole:
            low, high = math.ceil(self.low), math.floor(self.high)
            return min(int(low * ((high + 1) / low) ** uniform), high)
        return rounded(self.low * (self.high / self.low) ** uniform)


@dataclass(frozen=True)
class Choice:
    """One of the listed values, equally likely."""

    values: tuple[Any, ...]

    def __init__(self, *values: Any) -> None:
        if len({repr(value) for value in values}) < 2:
            raise ValueError(f"Choice{values!r}: list at least two different values")
        if None in values:
            raise ValueError(f"Choice{values!r}: a study cannot write None; use a value")
        object.__setattr__(self, "values", values)

    def at(self, uniform: float, *, whole: bool) -> Any:
        """Return the value at a share of the list; `uniform` is in [0, 1)."""
        return self.values[int(uniform * len(self.values))]


Tried = Range | Choice
KINDS = {"range": Range, "log_range": LogRange, "choice": Choice}


def declared_ranges(plugin: Plugin) -> dict[str, Tried]:
    """Return the range of each setting that declares one, in the order of the signature.

    Raises ValueError for a setting with two ranges or with one that leaves the setting's type.
    """
    ranges: dict[str, Tried] = {}
    for name, setting in plugin.settings.items():
        found = [m for m in typing.get_args(setting.annotation)[1:] if isinstance(m, Tried)]
        if typing.get_origin(setting.annotation) is not typing.Annotated or not found:
            continue
        if len(found) > 1:
            raise ValueError(f"{plugin.name}.{name}: two ranges; declare one")
        ranges[name] = fitting(plugin, name, found[0])
    return ranges


def overridden(plugin: Plugin, tables: Mapping[str, Mapping[str, Any]]) -> dict[str, Tried]:
    """Return the declared ranges with those of a study in their place.

    A study writes `beta = {log_range = [0.01, 1.0]}`, `{range = [...]}` or `{choice = [...]}`.
    Raises ValueError for a setting that the plugin lacks, and for what is no range of it.
    """
    ranges = declared_ranges(plugin)
    for name, table in tables.items():
        if name not in plugin.settings:
            hint = nearest(name, plugin.settings)
            raise ValueError(f"{plugin.kind} {plugin.name!r} has no setting {name!r}.{hint}")
        kinds = [kind for kind in table if kind in KINDS]
        values = table[kinds[0]] if len(table) == len(kinds) == 1 else None
        if not isinstance(values, list | tuple):
            raise ValueError(f"{name}: write it as {{log_range = [0.01, 1.0]}}, range or choice")
        try:
            ranges[name] = fitting(plugin, name, KINDS[kinds[0]](*values))
        except TypeError:
            raise ValueError(f"{name}: {kinds[0]} = {values!r} is no such range") from None
    return {name: ranges[name] for name in plugin.settings if name in ranges}


def fitting(plugin: Plugin, name: str, tried: Tried) -> Tried:
    """Return a range whose values are of the setting's type; raise ValueError for any other."""
    whole, where = is_whole(plugin, name), f"{plugin.name}.{name}"
    ends = tried.values if isinstance(tried, Choice) else (tried.low, tried.high)
    if isinstance(tried, Range) and whole and math.ceil(tried.low) >= math.floor(tried.high):
        raise ValueError(f"{where}: {tried} holds fewer than two whole numbers")
    try:
        for end in ends:
            is_number = isinstance(tried, Range) and whole and not isinstance(end, bool)
            coerce(math.floor(end) if is_number else end, plugin.settings[name].annotation, where)
    except (TypeError, ValueError) as error:
        raise ValueError(str(error)) from None
    return tried


def is_whole(plugin: Plugin, name: str) -> bool:
    """Say whether a setting takes whole numbers alone."""
    annotation = plugin.settings[name].annotation
    if typing.get_origin(annotation) is typing.Annotated:
        annotation = typing.get_args(annotation)[0]
    return int in {annotation, *typing.get_args(annotation)}


def drawn_trials(
    plugin: Plugin,
    label: str,
    ranges: Mapping[str, Tried],
    *,
    count: int,
    seed: int,
    declared: Mapping[str, Any],
) -> list[dict[str, Any]]:
    """Return what each trial of a row sets, no two of them alike.

    `declared` is what the study sets for the row, so what trial 0 has. The trials are fewer than
    `count` where the ranges hold fewer different settings.
    """
    drawn: list[dict[str, Any]] = [{}]
    seen = [{name: declared.get(name, plugin.settings[name].default) for name in ranges}]
    for trial in range(1, count):
        tries = (
            drawn_settings(plugin, label, ranges, trial=trial, seed=seed, again=again)
            for again in range(TRIES)
        )
        new = next((settings for settings in tries if settings not in seen), None)
        if new is None:
            break
        drawn.append(new)
        seen.append(new)
    return drawn


def drawn_settings(
    plugin: Plugin,
    label: str,
    ranges: Mapping[str, Tried],
    *,
    trial: int,
    seed: int,
    again: int = 0,
) -> dict[str, Any]:
    """Return what a trial sets: nothing for trial 0, which is the row as it stands.

    `again` counts the draws of the trial that earlier trials had.
    """
    if trial == 0:
        return {}
    names = (again,) if again else ()
    return {
        name: tried.at(
            uniform(seed, "tune", label, trial, name, *names),
            whole=is_whole(plugin, name),
        )
        for name, tried in ranges.items()
    }


def uniform(seed: int, *names: str | int) -> float:
    """Return a number in [0, 1) that belongs to a seed and names, by numpy's Philox."""
    from numpy.random import Generator, Philox

    return float(Generator(Philox(key=derived_seed(seed, *names))).random())


def rounded(number: float) -> float:
    """Return a number to the digits that an id keeps, so that files and ids agree."""
    return float(f"{number:.{DIGITS}g}")
