"""The plugins that a study names, imported: what loads, what is broken, what is refused."""

from __future__ import annotations

import importlib
import traceback
from collections.abc import Iterable
from pathlib import Path

from harness import registry


def in_study(plugin: str, folder: Path) -> str | Path:
    """Return a plugin that a study names: a module as it stands, a file beside the study."""
    return folder / plugin if plugin.endswith(".py") or "/" in plugin else plugin


def load_plugins(
    named: Iterable[str | Path],
) -> tuple[tuple[Path, ...], dict[str, str], list[str]]:
    """Import all plugins; return the files loaded, the broken ones with traceback, the problems.

    What is missing, no Python, or clashes with another plugin is a problem of the study; what
    raises anything else costs the cells that need it.
    """
    loaded, broken, problems = [], {}, []
    try:
        registry.discover()
    except (ImportError, ValueError) as error:
        problems.append(f"plugins: {error}")
    for plugin in named:
        try:
            if isinstance(plugin, str):
                importlib.import_module(plugin)
                continue
            registry.import_file(plugin)
            loaded.append(plugin.resolve())
        except (OSError, ImportError, SyntaxError, ValueError) as error:
            problems.append(f"plugins: {error}")
        except Exception as error:
            broken[str(plugin)] = "".join(traceback.format_exception(error))
    return tuple(loaded), broken, problems
