"""Which code an artifact depends on: the first-party modules that its stage's module imports.

Read from source, never by importing, so that planning stays light. The digest is kept in the
manifest and is no part of an id: a difference becomes the mark "code changed since".
"""

from __future__ import annotations

import hashlib
import re
import sys
from functools import lru_cache
from importlib.util import resolve_name
from pathlib import Path
from typing import Any, Final

from harness.owners import OURS
from harness.stage import Stage

# Read by pattern: a syntax tree costs milliseconds a module, and a plan looks at many. A sentence
# in a docstring may pass for an import; then the closure is a module larger than it has to be.
STATEMENT: Final = re.compile(
    r"^[ \t]*(?:import[ \t]+([\w., \t]+)"
    r"|from[ \t]+([\w.]+)[ \t]+import[ \t]+(\([^)]*\)|[^\n]+))",
    re.MULTILINE,
)
NAMED: Final = re.compile(r"(\w+)(?:[ \t]+as[ \t]+\w+)?")
COMMENT: Final = re.compile(r"#[^\n]*")

# Everything reaches everything through these, so what a stage itself needs is asked without them.
CORE: Final = frozenset(
    f"harness{name}"
    for name in ("", ".artifacts", ".draft", ".judge", ".registry", ".shared", ".stage")
)


def code_digest(stage: Stage[..., Any]) -> str:
    """Return the SHA-256 over the source of every first-party module the stage may reach."""
    file = Path(stage.body.__code__.co_filename)
    return reach(stage.body.__module__, str(file), stamp(file), frozenset())[0]


def third_party(stage: Stage[..., Any]) -> frozenset[str]:
    """Return the top-level packages that the stage's module and what it builds on import."""
    file = Path(stage.body.__code__.co_filename)
    return reach(stage.body.__module__, str(file), stamp(file), CORE)[1]


@lru_cache(maxsize=256)
def reach(
    start: str, file: str, now: tuple[int, int], without: frozenset[str]
) -> tuple[str, frozenset[str]]:
    """Follow imports from one module; return the digest of names and sources, and who else's."""
    first_party = {*OURS, start.split(".")[0]}
    waiting, digests, others = [(start, Path(file))], {}, set[str]()
    while waiting:
        name, path = waiting.pop()
        if name in digests or name in without:
            continue
        source, imported = imports(str(path), stamp(path), name, path.name == "__init__.py")
        digests[name] = source
        for wanted in imported:
            if wanted.split(".")[0] not in first_party:
                others.add(wanted.split(".")[0])
            elif (found := locate(wanted, start, file)) and found[0] not in digests:
                waiting.append(found)
    lines = "\n".join(f"{name} {digests[name]}" for name in sorted(digests))
    return hashlib.sha256(lines.encode()).hexdigest(), frozenset(others)


@lru_cache(maxsize=4096)
def imports(
    path: str, now: tuple[int, int], name: str, is_package: bool
) -> tuple[str, tuple[str, ...]]:
    """Return a file's digest and every name it may import, function-level imports included."""
    source = Path(path).read_bytes()
    package = name if is_package else name.rpartition(".")[0]
    wanted: list[str] = []
    for plain, origin, names in STATEMENT.findall(source.decode("utf-8", "replace")):
        if plain:
            wanted += [part.split()[0] for part in plain.split(",") if part.strip()]
            continue
        if origin.startswith("."):
            origin = resolve_name(origin, package)
        listed = NAMED.findall(COMMENT.sub("", names))
        wanted += [origin, *(f"{origin}.{name}" for name in listed)]
    return hashlib.sha256(source).hexdigest(), tuple(dict.fromkeys(wanted))


def locate(wanted: str, start: str, file: str) -> tuple[str, Path] | None:
    """Return module name and source file of a first-party name, or None if it is no module."""
    top = wanted.split(".")[0]
    if top == start:
        return (start, Path(file))
    return found_in(tuple(getattr(sys.modules.get(top), "__path__", ())), wanted)


@lru_cache(maxsize=4096)
def found_in(roots: tuple[str, ...], wanted: str) -> tuple[str, Path] | None:
    """Return name and source file of a module of the package that lies in `roots`, or None."""
    for root in roots:
        base = Path(root, *wanted.split(".")[1:])
        if base.with_suffix(".py").is_file() and base != Path(root):
            return wanted, base.with_suffix(".py")
        if (base / "__init__.py").is_file():
            return wanted, base / "__init__.py"
    return None


def stamp(path: Path) -> tuple[int, int]:
    """Return modification time and size of a file: the key under which its parse is remembered."""
    status = path.stat()
    return status.st_mtime_ns, status.st_size
