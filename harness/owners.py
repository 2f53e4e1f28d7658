"""Who owns a plugin, as it enters ids: our distribution, or the module that a third party chose."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

OURS = ("harness", "methods", "evals")
DISTRIBUTION = "alignment-matrix"


def owner_of(body: Callable[..., Any]) -> str:
    """Return who owns a plugin: our distribution, or the top-level module a third party chose.

    That is the same for a file given by `--plugin`, an installed package and a script.
    """
    top = body.__module__.split(".")[0]
    if top in OURS:
        return DISTRIBUTION
    return Path(body.__code__.co_filename).stem if top == "__main__" else top


def where_defined(body: Callable[..., Any]) -> str:
    """Return file and name of a function, as an error message names it."""
    return f"{Path(body.__code__.co_filename).resolve()}:{body.__qualname__}"


def owner_of_type(kind: type) -> str:
    """Return who owns a dataclass used as a setting; see `owner_of`."""
    top = kind.__module__.split(".")[0]
    return DISTRIBUTION if top in OURS else top
