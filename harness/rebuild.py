"""Turn a recipe's JSON back into a stage and its arguments, in a process that did not plan it."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import inspect
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from harness.owners import owner_of_type
from harness.stage import STAGES, Artifact, Stage, freeze

Bind = Callable[[Artifact], Artifact]


class Unresolvable(Exception):  # noqa: N818  (what is missing is named, like a failed import)
    """Raised where a worker cannot find or rebuild what a recipe names."""


def find_stage(name: str, module: str, file: str, plugins: tuple[str, ...]) -> Stage[..., Any]:
    """Return the stage of a name that `file` defines; raises Unresolvable where there is none."""
    problems = []
    for attempt in (partial(import_named, module, file), partial(register, plugins)):
        try:
            attempt()
        except Exception as error:  # the stage may be there all the same; the log keeps the rest
            problems.append(f"{type(error).__name__}: {error}")
    for problem in problems:
        print(f"while registering plugins: {problem}", flush=True)
    found = STAGES.get(name)
    if found is None:
        raise Unresolvable(
            f"a worker cannot find stage {name!r} of {file}: define it in an importable module "
            f"or in a file given by --plugin. {'; '.join(problems)}"
        )
    defined = Path(found.body.__code__.co_filename).resolve()
    if str(defined) != file:
        raise Unresolvable(f"stage {name!r} is in {defined} here, and in {file} where planned")
    return found


def import_named(module: str, file: str) -> None:
    """Import the module of a stage, if it can be imported by its name and is the same file."""
    with contextlib.suppress(ModuleNotFoundError, ValueError):
        spec = importlib.util.find_spec(module)
        if spec is not None and spec.origin and str(Path(spec.origin).resolve()) == file:
            importlib.import_module(module)


def register(plugins: tuple[str, ...]) -> None:
    """Register all plugins, the given files first: a broken neighbour must not hide them."""
    from harness import registry

    for plugin in plugins:
        registry.import_file(Path(plugin))
    discover_installed()


@lru_cache(maxsize=1)
def discover_installed() -> None:
    """Register our plugins and every installed one, once a process; workers inherit it."""
    from harness import registry

    registry.discover()


def rebuild_arguments(
    stage: Stage[..., Any], arguments: Mapping[str, Any], bind: Bind
) -> dict[str, Any]:
    """Return a body's arguments from JSON, artifacts bound to their folders by `bind`."""
    unknown = arguments.keys() - stage.signature.parameters.keys()
    if unknown:
        raise Unresolvable(f"stage {stage.full_name} has no setting {sorted(unknown)}")
    return {key: rebuild(value, stage.hints[key], bind) for key, value in arguments.items()}


def rebuild(value: Any, annotation: Any, bind: Bind) -> Any:
    """Return one argument from JSON: artifacts, dataclasses, and lists as tuples."""
    if isinstance(value, dict) and "$artifact" in value:
        kind = Artifact.kinds.get(value["kind"])
        if kind is None:
            raise Unresolvable(f"no kind of artifact is called {value['kind']!r} here")
        return bind(kind(value["$artifact"]))
    if isinstance(value, dict) and "$type" in value:
        kind = find_type(value["$type"], annotation)
        hints = typing.get_type_hints(kind)
        parts = {key: part for key, part in value.items() if key != "$type"}
        if parts.keys() != {f.name for f in fields(kind)}:
            raise Unresolvable(f"{value['$type']} has other fields here: {sorted(parts)} were sent")
        return kind(**{key: rebuild(part, hints[key], bind) for key, part in parts.items()})
    if isinstance(value, dict):
        inner = annotated(annotation, Mapping)[-1:] or [Any]
        return freeze({key: rebuild(item, inner[0], bind) for key, item in value.items()})
    if isinstance(value, list):
        inner = annotated(annotation, tuple) or [Any]
        many = inner[1:] == [...] or len(inner) != len(value)
        each = inner[:1] * len(value) if many else inner
        return tuple(rebuild(item, hint, bind) for item, hint in zip(value, each, strict=True))
    return value


def annotated(annotation: Any, container: type) -> list[Any]:
    """Return what an annotation says is in a container, looking through unions."""
    for option in options(annotation):
        origin = typing.get_origin(option)
        if inspect.isclass(origin) and issubclass(origin, container):
            return list(typing.get_args(option))
    return []


def options(annotation: Any) -> Iterator[Any]:
    """Yield the members of a union, or the annotation itself."""
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        for option in typing.get_args(annotation):
            yield from options(option)
    else:
        yield annotation


def find_type(name: str, annotation: Any) -> type[Any]:
    """Return the dataclass called `owner:Name`: a Judge, or one that the annotation names."""
    from harness.judge import Judge

    if name in Judge.kinds:
        return Judge.kinds[name]
    named = [option for option in options(annotation) if inspect.isclass(option)]
    for kind in [found for base in named for found in (base, *descendants(base))]:
        if is_dataclass(kind) and f"{owner_of_type(kind)}:{kind.__name__}" == name:
            return kind
    raise Unresolvable(f"no dataclass is called {name!r} here; is its plugin given by --plugin?")


def descendants(kind: type[Any]) -> Iterator[type[Any]]:
    """Yield every subclass of a class, depth first."""
    for sub in type.__subclasses__(kind):
        yield sub
        yield from descendants(sub)
