"""Stages: named, versioned work that turns artifacts into a new artifact.

Calling a stage runs nothing. It returns an artifact whose id follows from the stage's name and
version, its settings, and the ids of its inputs. Two methods that ask for the same work therefore
hold the same artifact, and the harness does that work once.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import math
import sys
import traceback
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, ClassVar, Concatenate, Generic, ParamSpec, TypeVar

from harness.annotations import refusal, show
from harness.draft import Draft
from harness.owners import owner_of, owner_of_type, where_defined

P = ParamSpec("P")
A = TypeVar("A", bound="Artifact")

PLAIN = (bool, int, str)  # types that JSON gives back as they were


@dataclass(frozen=True)
class Recipe:
    """Which stage makes an artifact, from which arguments, and which line asked for it first."""

    stage: Stage[Any, Any]
    arguments: Mapping[str, Any]
    asked_at: str

    def to_json(self) -> dict[str, Any]:
        """Return the recipe as plain JSON, enough to make the artifact in another process."""
        arguments = {key: plain(value, whole=True) for key, value in self.arguments.items()}
        return {
            "stage": self.stage.full_name,
            "version": self.stage.version,
            "arguments": arguments,
            "asked_at": self.asked_at,
        }

    @cached_property
    def digest(self) -> str:
        """Return the SHA-256 of the recipe: name, version, settings, ids of inputs."""
        identity = {key: plain(value) for key, value in self.arguments.items()}
        recipe = [self.stage.full_name, self.stage.version, identity]
        text = json.dumps(recipe, sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()


class Artifact:
    """A folder that a stage will write, or has written."""

    kinds: ClassVar[dict[str, type[Artifact]]] = {}

    def __init__(self, id: str, recipe: Recipe | None = None, path: Path | None = None) -> None:
        self.id = id
        self.recipe = recipe
        self._path = path

    def __init_subclass__(cls) -> None:
        Artifact.kinds[cls.__name__] = cls

    @property
    def path(self) -> Path:
        """The folder. Raises RuntimeError while the artifact is only planned."""
        if self._path is None:
            raise RuntimeError(
                f"{self.id} is still a plan; open artifacts inside a stage, not in a method's body"
            )
        return self._path

    @cached_property
    def inputs(self) -> list[Artifact]:
        """The artifacts that the recipe names directly, each once, in the order named."""
        if self.recipe is None:
            return []
        return list({a.id: a for a in find_artifacts(self.recipe.arguments)}.values())

    def at(self, path: Path) -> typing.Self:
        """Return the same artifact, bound to its folder."""
        return type(self)(self.id, self.recipe, path)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Artifact) and self.id == other.id

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.id})"


@dataclass(frozen=True)
class Stage(Generic[P, A]):
    """A function that writes one artifact into a folder; see `stage`."""

    body: Callable[Concatenate[Draft, P], None]
    makes: type[A]
    version: int
    name: str
    owner: str
    later: tuple[str, ...] = ()
    check: Callable[[Mapping[str, Any]], None] | None = None

    @property
    def full_name(self) -> str:
        """`owner:name`, by declaration and never by module path: moving code changes no id."""
        return f"{self.owner}:{self.name}"

    @cached_property
    def signature(self) -> inspect.Signature:
        """The body's parameters after `out`."""
        whole = inspect.signature(self.body)
        return whole.replace(parameters=list(whole.parameters.values())[1:])

    @cached_property
    def hints(self) -> dict[str, Any]:
        """The resolved annotation of each parameter."""
        return typing.get_type_hints(self.body, include_extras=True)  # limits are declared so

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> A:
        """Return the artifact that this stage would make: a handle, nothing runs."""
        bound = self.signature.bind(*args, **kwargs)
        bound.apply_defaults()
        where = f"{self.name}(...)"
        arguments = {
            key: coerce(value, self.hints[key], f"{where} setting {key!r}")
            for key, value in bound.arguments.items()
            if value is not None or key not in self.later
        }
        if self.check is not None:
            self.check(arguments)
        recipe = Recipe(self, arguments, asking_line())
        return self.makes(f"{self.name}-{recipe.digest[:12]}", recipe)


STAGES: dict[str, Stage[Any, Any]] = {}


def stage(
    makes: type[A],
    *,
    version: int = 1,
    name: str | None = None,
    later: tuple[str, ...] = (),
    check: Callable[[Mapping[str, Any]], None] | None = None,
) -> Callable[[Callable[Concatenate[Draft, P], None]], Stage[P, A]]:
    """Turn a function `body(out, inputs..., *, settings)` into a stage that makes `makes`.

    Raise `version` when a change to the body should redo cached work. Settings in `later` are in no
    recipe while they are None: work from before them stays. `check` sees all arguments while the
    stage is planned, and raises ValueError where they do not go together; limits of a single one
    belong to its annotation. Raises TypeError for a local function (a worker could not find it), no
    annotation, a seed's default, and no default None in `later`.
    """

    def register(body: Callable[Concatenate[Draft, P], None]) -> Stage[P, A]:
        if "<" in body.__qualname__:
            raise TypeError(f"stage {body.__qualname__} is local; define it at module level")
        made = Stage(body, makes, version, name or body.__name__, owner_of(body), later, check)
        for parameter in made.signature.parameters.values():
            if parameter.name not in made.hints:
                raise TypeError(f"stage {made.name}: annotate parameter {parameter.name!r}")
            if parameter.name == "seed" and parameter.default is not parameter.empty:
                raise TypeError(f"stage {made.name}: a seed has no default; the caller owns it")
        for late in later:
            known = made.signature.parameters.get(late)
            if known is None or known.default is not None:
                raise TypeError(f"stage {made.name}: {late!r} in later needs the default None")
        other = STAGES.get(made.full_name)
        if other and where_defined(other.body) != where_defined(body):
            raise ValueError(
                f"two stages are called {made.full_name!r}: in {where_defined(other.body)} and in "
                f"{where_defined(body)}; rename one"
            )
        STAGES[made.full_name] = made
        return made

    return register


def asking_line() -> str:
    """Return `file:line` of the nearest caller outside harness and Python, else of the caller."""
    caller = sys._getframe(2)
    for frame, line in traceback.walk_stack(caller):
        top = frame.f_globals.get("__name__", "").split(".")[0]
        if top == "typer":
            break  # a command: no line of a user's asked for it
        if top != "harness" and top not in sys.stdlib_module_names:
            return f"{frame.f_code.co_filename}:{line}"
    return f"{caller.f_code.co_filename}:{caller.f_lineno}"


def coerce(value: Any, annotation: Any, where: str) -> Any:
    """Return `value` frozen and of its annotated type; raise TypeError naming `where` if it is not.

    ValueError for a number outside the limits that the annotation declares. Plain data goes through
    strict JSON, so 1 becomes 1.0 for a float, lists become tuples, and "1e-5", True for a number,
    NaN and infinity are refused.
    """
    if type(value) is annotation and (
        isinstance(value, (*PLAIN, Artifact)) or (annotation is float and math.isfinite(value))
    ):
        return value
    if holds_objects(value):
        frozen = freeze(with_coerced_fields(value, where))
        if not fits(frozen, annotation):
            raise TypeError(f"{where} must be {show(annotation)}, not {value!r}")
        return frozen
    from pydantic import ValidationError

    try:
        return freeze(
            adapter(annotation).validate_json(json.dumps(value, allow_nan=False), strict=True)
        )
    except ValidationError as error:
        raise refusal(where, value, annotation, error.errors()[0]) from None
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"{where} must be plain data or an artifact, not {value!r}: {error}"
        ) from None


def with_coerced_fields(value: Any, where: str) -> Any:
    """Return `value` with dataclass fields coerced: flips=0 and flips=0.0 are one setting."""
    if isinstance(value, Mapping):
        return {key: with_coerced_fields(item, f"{where}[{key!r}]") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [with_coerced_fields(item, f"{where}[{i}]") for i, item in enumerate(value)]
    if not is_dataclass(value) or isinstance(value, type):
        return value
    hints = hints_of(type(value))
    named = ((f.name, getattr(value, f.name)) for f in fields(value))
    return replace(value, **{k: coerce(v, hints[k], f"{where}.{k}") for k, v in named})


hints_of = lru_cache(maxsize=512)(typing.get_type_hints)


@lru_cache(maxsize=512)
def adapter(annotation: Any) -> Any:
    """Return pydantic's validator for an annotation."""
    from pydantic import ConfigDict, TypeAdapter

    if is_dataclass(annotation) or (
        inspect.isclass(annotation) and issubclass(annotation, Artifact)
    ):
        raise TypeError(f"expected {show(annotation)}")
    try:
        return TypeAdapter(annotation)
    except Exception:
        return TypeAdapter(annotation, config=ConfigDict(arbitrary_types_allowed=True))


def holds_objects(value: Any) -> bool:
    """Say whether artifacts or dataclasses stand anywhere in `value`."""
    if isinstance(value, Artifact) or (is_dataclass(value) and not isinstance(value, type)):
        return True
    if isinstance(value, Mapping):
        return any(holds_objects(item) for item in value.values())
    return isinstance(value, list | tuple) and any(holds_objects(item) for item in value)


def fits(value: Any, annotation: Any) -> bool:
    """Say whether objects in `value` are of the annotated type (containers are looked into)."""
    origin, options = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation is Any:
        return True
    if origin is None:
        return isinstance(value, annotation)
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, option) for option in options)
    if isinstance(value, Mapping):
        return issubclass(origin, Mapping) and all(fits(v, options[1]) for v in value.values())
    if isinstance(value, tuple):
        each = options[:1] * len(value) if options[1:] == (...,) else options
        return len(each) == len(value) and all(map(fits, value, each))
    return False


def freeze(value: Any) -> Any:
    """Return `value` with lists as tuples and mappings sorted by key, read-only."""
    if isinstance(value, Mapping):
        return types.MappingProxyType({str(k): freeze(value[k]) for k in sorted(value)})
    if isinstance(value, list | tuple):
        return tuple(freeze(item) for item in value)
    return value


def plain(value: Any, *, whole: bool = False) -> Any:
    """Return `value` as JSON, artifacts by id; `whole` keeps fields that are not in the identity.

    A dataclass field declared with `compare=False`, such as a file's path beside its digest, goes
    to workers and into no id. Floats are rounded to 12 significant digits.
    """
    if isinstance(value, Artifact):
        return {"$artifact": value.id, "kind": type(value).__name__}
    if is_dataclass(value) and not isinstance(value, type):
        chosen = [f for f in fields(value) if whole or f.compare]
        parts = {f.name: plain(getattr(value, f.name), whole=whole) for f in chosen}
        return {"$type": f"{owner_of_type(type(value))}:{type(value).__name__}", **parts}
    if isinstance(value, Mapping):
        return {str(key): plain(item, whole=whole) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item, whole=whole) for item in value]
    if isinstance(value, float):
        if not math.isfinite(value):
            raise TypeError(f"a setting must be a finite number, not {value}")
        return float(f"{value:.12g}")
    if value is None or isinstance(value, bool | int | str):
        return value
    kind = type(value).__name__
    raise TypeError(f"a stage setting must be plain data or an artifact, not {kind}")


def find_artifacts(value: Any) -> Iterator[Artifact]:
    """Yield every artifact in a value, depth first."""
    if isinstance(value, Artifact):
        yield value
    elif is_dataclass(value) and not isinstance(value, type):
        yield from find_artifacts(tuple(getattr(value, f.name) for f in fields(value)))
    elif isinstance(value, Mapping):
        yield from find_artifacts(tuple(value.values()))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from find_artifacts(item)
