"""Type annotations as a reader would write them, and the limits that numbers are held to.

A limit stands in a signature, of a stage or of a plugin: `n: Count`. What lies outside is refused
while a study is planned, before anything is made.
"""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from annotated_types import Ge, Gt, Le, Lt

Count = Annotated[int, Ge(1)]
Whole = Annotated[int, Ge(0)]
Positive = Annotated[float, Gt(0)]
NotNegative = Annotated[float, Ge(0)]
Share = Annotated[float, Ge(0), Le(1)]
ProperShare = Annotated[float, Ge(0), Lt(1)]
OpenShare = Annotated[float, Gt(0), Lt(1)]
Smoothing = Annotated[float, Ge(0), Lt(0.5)]  # of a label: at 1/2 it would say nothing

LIMITS = {  # pydantic's name of what a number broke, as a sentence says it
    "greater_than": "above",
    "greater_than_equal": "at least",
    "less_than": "below",
    "less_than_equal": "at most",
}


@dataclass(frozen=True)
class Examples:
    """Values that a setting takes besides its default, where its type does not tell them.

    `text: Annotated[str, Examples("b")] = "a"`: tuning leaves them alone, checks try them.
    """

    values: tuple[Any, ...]

    def __init__(self, *values: Any) -> None:
        object.__setattr__(self, "values", values)


def bare(annotation: Any) -> Any:
    """Return an annotation without what it declares for tuning and checks."""
    declared = typing.get_origin(annotation) is typing.Annotated
    return typing.get_args(annotation)[0] if declared else annotation


def show(annotation: Any) -> str:
    """Return an annotation as text, without the module's name and what it declares for tuning."""
    annotation = bare(annotation)
    origin, options = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        return " | ".join(show(option) for option in options)
    if annotation is types.NoneType:
        return "None"
    named = inspect.isclass(annotation)
    return annotation.__name__ if named else str(annotation).replace("typing.", "")


def refusal(
    where: str, value: Any, annotation: Any, found: Mapping[str, Any]
) -> TypeError | ValueError:
    """Return what to raise for the first error that pydantic found in a value.

    A number outside its limits is of the right type: that is a ValueError, and names the limit.
    """
    if found["type"] not in LIMITS:
        return TypeError(f"{where} must be {show(annotation)}, not {value!r}: {found['msg']}")
    (limit,) = found["ctx"].values()
    return ValueError(f"{where} must be {LIMITS[found['type']]} {limit:g}, not {found['input']!r}")
