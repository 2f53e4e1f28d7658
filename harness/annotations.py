"""Type annotations as a reader would write them."""

from __future__ import annotations

import inspect
import types
import typing
from dataclasses import dataclass
from typing import Any


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
