"""Find plugins by name: methods, suites, datasets and judges, ours and third parties'.

A plugin is a decorated function whose keyword parameters are its settings. Ours stand in methods/,
evals/ and the embedded world; others come from entry points of the group `alignment_matrix` or from
files given by `--plugin`. Two plugins of one name are an error that names both distributions.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import pkgutil
import re
import sys
import typing
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cached_property
from importlib.metadata import entry_points, packages_distributions
from pathlib import Path
from typing import Any, Literal

from harness.artifacts import Policy, Scores
from harness.judge import Judge
from harness.owners import DISTRIBUTION, OURS, owner_of, where_defined
from harness.shared import Data, Shared, Subject
from harness.stage import coerce

Kind = Literal["method", "suite", "dataset", "judge"]
GROUP = "alignment_matrix"
NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
GIVEN = {"method": 1, "suite": 1, "dataset": 2, "judge": 1}  # parameters that the harness fills in


class UnknownNameError(LookupError):
    """A name that no plugin has; the message says the nearest one that exists."""


@dataclass(frozen=True)
class Metric:
    """A number that a suite reports: its direction, range and unit are declared, never guessed."""

    name: str
    higher_is_better: bool
    range: tuple[float, float]
    primary: bool = False
    description: str = ""


@dataclass(frozen=True)
class Setting:
    """One keyword of a plugin: its annotated type and default."""

    name: str
    annotation: Any
    default: Any


@dataclass(frozen=True)
class Plugin:
    """A registered function with its owner and what it declares about itself."""

    kind: Kind
    name: str
    function: Callable[..., Any]
    paper: str | None = None
    axis: str | None = None
    metrics: tuple[Metric, ...] = field(default=())

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise ValueError(f"{self.kind} name {self.name!r}: at most 40 of a-z, 0-9 and _")

    @property
    def owner(self) -> str:
        """Who owns the plugin, as it enters ids; see `owners.owner_of`."""
        return owner_of(self.function)

    @property
    def distribution(self) -> str:
        """The installed distribution or the file that offers it, as a message names it."""
        top = self.function.__module__.split(".")[0]
        if top in OURS:
            return DISTRIBUTION
        names = packages_distributions().get(top)
        return names[0] if names else self.function.__code__.co_filename

    @property
    def summary(self) -> str:
        """The first line of the docstring."""
        return (inspect.getdoc(self.function) or "").split("\n")[0]

    @cached_property
    def settings(self) -> dict[str, Setting]:
        """The keywords a study may set, in the order declared."""
        hints = typing.get_type_hints(self.function, include_extras=True)  # ranges are declared so
        parameters = list(inspect.signature(self.function).parameters.values())[GIVEN[self.kind] :]
        return {p.name: Setting(p.name, hints.get(p.name, Any), p.default) for p in parameters}

    def __call__(self, *given: Any, **settings: Any) -> Any:
        """Call the plugin, settings coerced to their types; raises TypeError naming a bad one."""
        for name in settings:
            if name not in self.settings:
                hint = nearest(name, self.settings)
                raise TypeError(f"{self.kind} {self.name!r} has no setting {name!r}.{hint}")
        coerced = {
            name: coerce(value, self.settings[name].annotation, f"{self.name}.{name}")
            for name, value in settings.items()
        }
        return self.function(*given, **coerced)


PLUGINS: dict[tuple[Kind, str], Plugin] = {}


def register(plugin: Plugin) -> Plugin:
    """Add a plugin; raise ValueError naming both distributions when the name is taken."""
    other = PLUGINS.get((plugin.kind, plugin.name))
    if other and where_defined(other.function) != where_defined(plugin.function):
        raise ValueError(
            f"two {plugin.kind}s are called {plugin.name!r}: one of {other.distribution} "
            f"({where_defined(other.function)}) and one of {plugin.distribution} "
            f"({where_defined(plugin.function)}); uninstall or rename one"
        )
    PLUGINS[plugin.kind, plugin.name] = plugin
    return plugin


def method(*, paper: str | None) -> Callable[[Callable[..., Policy]], Plugin]:
    """Register `f(shared, **settings) -> Policy` as an alignment method under its own name."""
    return lambda function: register(Plugin("method", function.__name__, function, paper=paper))


def suite(*, axis: str, metrics: tuple[Metric, ...]) -> Callable[[Callable[..., Scores]], Plugin]:
    """Register `f(subject, **settings) -> Scores` as a suite on one axis; one metric is primary."""
    if sum(metric.primary for metric in metrics) != 1:
        raise ValueError("a suite declares exactly one primary metric")
    return lambda function: register(
        Plugin("suite", function.__name__, function, axis=axis, metrics=metrics)
    )


def dataset(function: Callable[..., Data]) -> Plugin:
    """Register `f(base, seed, **settings) -> Data` as a dataset under its own name."""
    return register(Plugin("dataset", function.__name__, function))


def judge(function: Callable[..., Judge]) -> Plugin:
    """Register `f(data, **settings) -> Judge` as a judge under its own name."""
    return register(Plugin("judge", function.__name__, function))


def discover(files: tuple[Path, ...] = ()) -> None:
    """Import our plugins, every installed one, and the given files. Repeating it changes nothing.

    Raises FileNotFoundError for a missing file; an installed plugin that fails to import is an
    ImportError naming its distribution.
    """
    for package in ("methods", "evals"):
        for module in pkgutil.iter_modules(importlib.import_module(package).__path__):
            if not module.ispkg:
                importlib.import_module(f"{package}.{module.name}")
    ours = ("data", "public_data", "mixture", "judges", "hamlet.dataset")
    for module_name in (f"harness.{name}" for name in ours):
        importlib.import_module(module_name)
    for entry in entry_points(group=GROUP):
        try:
            entry.load()
        except Exception as error:
            source = entry.dist.name if entry.dist else entry.value
            raise ImportError(
                f"plugin {entry.name!r} of {source} failed to load: {error}"
            ) from error
    for file in files:
        import_file(file)


def import_file(file: Path) -> None:
    """Import one plugin file under its own stem, as if it were installed."""
    if not file.is_file():
        raise FileNotFoundError(f"no plugin file {file}")
    name = file.stem
    known = sys.modules.get(name)
    if known is not None:
        if known.__file__ and Path(known.__file__).resolve() == file.resolve():
            return
        raise ImportError(f"plugin file {file} shadows the module {name!r}; rename the file")
    found = importlib.util.find_spec(name)
    if found is not None and not (found.origin and Path(found.origin).resolve() == file.resolve()):
        raise ImportError(f"plugin file {file} shadows the module {name!r}; rename the file")
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise ImportError(f"{file} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise


def get(kind: Kind, name: str) -> Plugin:
    """Return a plugin by name; raise UnknownNameError with the nearest name that exists."""
    found = PLUGINS.get((kind, name))
    if found is None:
        names = [plugin.name for plugin in plugins(kind)]
        raise UnknownNameError(
            f"no {kind} {name!r}.{nearest(name, names)} Known: {', '.join(names)}"
        )
    return found


def plugins(kind: Kind) -> Iterator[Plugin]:
    """Yield the plugins of one kind, sorted by name."""
    yield from (PLUGINS[key] for key in sorted(PLUGINS) if key[0] == kind)


def nearest(name: str, names: typing.Iterable[str]) -> str:
    """Return ` Did you mean 'x'?`, or nothing when no known name is near."""
    close = get_close_matches(name, list(names), n=1)
    return f" Did you mean {close[0]!r}?" if close else ""


__all__ = ["Data", "Metric", "Plugin", "Shared", "Subject", "discover", "get", "register"]
