"""Tables about plugins and studies, made from what the program itself reads: signatures and models.

They stand in the READMEs between markers, so what a reader is told is what the code does.
"""

from __future__ import annotations

import ast
import inspect
import re
import tokenize
import types
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from inspect import Parameter
from io import StringIO
from pathlib import Path
from typing import Any, Literal

from harness.glossary import SFT, meaning
from harness.owners import DISTRIBUTION
from harness.ranges import Choice, LogRange, Tried, declared_ranges
from harness.registry import Kind, Plugin, plugins
from harness.study_file import StudyFile, Table

PLAIN = {bool: "true or false", int: "whole number", float: "number", str: "text"}
PARTS = re.compile(r"(?:^|(?<=\s))(\d+)\. ")
DIFFERS = "Differs from the paper:"
MANY = 4  # plugins that take a setting before it is told once for all
TOP = "The top of the file"
LIMITS = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}
PAPERS = "https://arxiv.org/abs/"


@dataclass(frozen=True)
class Key:
    """One thing a study may write: its name, type, default, what tuning tries, what it means."""

    name: str
    type: str
    default: str
    tried: str
    meaning: str
    note: str = ""


def keys_of(plugin: Plugin) -> list[Key]:
    """Return the settings of a plugin, in the order of its signature."""
    tried, notes = declared_ranges(plugin), notes_of(plugin)
    return [
        Key(
            name,
            type_name(setting.annotation),
            default_text(setting.default),
            range_text(tried[name]) if name in tried else "",
            meaning(plugin.kind, plugin.name, name),
            notes.get(name, ""),
        )
        for name, setting in plugin.settings.items()
    ]


def type_name(annotation: Any) -> str:
    """Return a type as a writer of TOML thinks of it: `"sl"`, `"rl"`; `list of numbers`."""
    origin, inside = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return type_name(inside[0])
    if origin is Literal:
        return ", ".join(f"`{toml_text(value)}`" for value in inside)
    if origin in (types.UnionType, typing.Union):
        return " or ".join(type_name(one) for one in inside if one is not type(None))
    if origin is tuple:
        return f"list of {type_name(inside[0])}s".replace("texts", "text")
    if origin in (dict, Mapping):
        return "table"
    if inspect.isclass(annotation) and issubclass(annotation, Table):
        return "table"
    return PLAIN.get(annotation, str(annotation))


def default_text(default: object) -> str:
    """Return a default as TOML would say it; `needed` where there is none, "" where it is unset."""
    if default is Parameter.empty:
        return "needed"
    if isinstance(default, Table):
        return "see below"
    return "" if default is None else f"`{toml_text(default)}`"


def toml_text(value: object) -> str:
    """Return a plain value as TOML writes it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(toml_text, value))}]"
    text = f"{value:g}" if isinstance(value, float) and not value.is_integer() else str(value)
    return text.replace("e-0", "e-")


def range_text(tried: Tried) -> str:
    """Return the range that tuning draws from."""
    if isinstance(tried, Choice):
        return "one of " + ", ".join(map(toml_text, tried.values))
    ends = f"{toml_text(tried.low)} to {toml_text(tried.high)}"
    return f"{ends}, log" if isinstance(tried, LogRange) else ends


def notes_of(plugin: Plugin) -> dict[str, str]:
    """Return the comment that stands beside each setting, or above it, in the plugin's source."""
    source = inspect.getsource(plugin.function)
    (tree,) = ast.parse(source).body
    assert isinstance(tree, ast.FunctionDef)
    written = tree.args
    defaults = dict(
        zip(
            [arg.arg for arg in reversed((*written.posonlyargs, *written.args))],
            reversed(written.defaults),
            strict=False,
        )
    ) | dict(zip([arg.arg for arg in written.kwonlyargs], written.kw_defaults, strict=True))
    comments = {
        token.start[0]: (token.string.removeprefix("#").strip(), token.line.lstrip()[0] == "#")
        for token in tokenize.generate_tokens(StringIO(source).readline)
        if token.type == tokenize.COMMENT
    }
    notes = {}
    for arg in (*written.posonlyargs, *written.args, *written.kwonlyargs):
        default = defaults.get(arg.arg)
        last = default.end_lineno if default is not None else arg.end_lineno
        above: list[str] = []
        line = arg.lineno - 1
        while comments.get(line, ("", False))[1]:
            above.insert(0, comments[line][0])
            line -= 1
        beside = comments.get(last or 0, ("", False))[0]
        notes[arg.arg] = " ".join([*above, beside]).strip()
    return notes


def table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table without the columns that no row fills; "" where there are no rows."""
    filled = [[cell.replace("|", "\\|").replace("\n", " ") for cell in row] for row in rows]
    kept = [place for place in range(len(titles)) if any(row[place] for row in filled)]
    lines = [[titles[place] for place in kept], ["---"] * len(kept)]
    lines += [[row[place] for place in kept] for row in filled]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) if filled else ""


def keys_table(keys: Iterable[Key]) -> str:
    """Return the table of some settings; "" where there are none."""
    titles = ("setting", "type", "default", "tuned in", "meaning", "source or reason")
    return table(
        titles, [(f"`{k.name}`", k.type, k.default, k.tried, k.meaning, k.note) for k in keys]
    )


def ours(kind: Kind) -> list[Plugin]:
    """Return the plugins of one kind that come with the package."""
    return [plugin for plugin in plugins(kind) if plugin.distribution == DISTRIBUTION]


def methods_text() -> str:
    """Return every method of ours: paper, idea, differences from the paper, settings."""
    found = ours("method")
    overview = table(
        ("method", "paper", "what it does"),
        [(f"[`{p.name}`](#{p.name})", paper_link(p.paper), p.summary) for p in found],
    )
    return "\n\n".join([overview, *(method_text(plugin) for plugin in found)])


def paper_link(paper: str | None) -> str:
    """Return a link to a paper, or what it says of itself."""
    number = (paper or "").removeprefix("arXiv:")
    return f"[{paper}]({PAPERS}{number})" if number != paper else number


def method_text(plugin: Plugin) -> str:
    """Return the section about one method, from its module's docstring and its signature."""
    module = inspect.getmodule(plugin.function)
    said = inspect.getdoc(module) or ""
    title, _, rest = said.partition("\n\n")
    idea, _, differences = rest.partition(DIFFERS)
    source = Path(inspect.getfile(plugin.function)).name
    parts = [f"### {plugin.name}", f"{unwrapped(title)} [Source]({source})", unwrapped(idea)]
    if differences:
        points = "\n".join(f"{n}. {point}" for n, point in enumerate(numbered(differences), 1))
        parts.append(f"{DIFFERS}\n\n{points}")
    parts.append(keys_table(keys_of(plugin)) or "It has no settings.")
    return "\n\n".join(part for part in parts if part)


def numbered(text: str) -> list[str]:
    """Return the points of a text that counts them: `1. This. 2. That.`"""
    joined = unwrapped(text)
    in_order: list[re.Match[str]] = []
    for mark in PARTS.finditer(
        joined
    ):  # "section 3. The" is no point where 3 is not the next number
        if int(mark[1]) == len(in_order) + 1:
            in_order.append(mark)
    ends = [*(mark.start() for mark in in_order[1:]), len(joined)]
    return [joined[mark.end() : end].strip() for mark, end in zip(in_order, ends, strict=True)]


def unwrapped(text: str) -> str:
    """Return text without its line breaks."""
    return " ".join(text.split())


def plugins_text(kind: Kind) -> str:
    """Return every plugin of one kind that we offer: what it says of itself, and its settings.

    Settings that many of them have in common stand once, at the end, with who takes them.
    """
    found = ours(kind)
    keys = {plugin.name: keys_of(plugin) for plugin in found}
    takers: dict[Key, list[str]] = {}
    for name, settings in keys.items():
        for key in settings:
            takers.setdefault(key, []).append(name)
    common = {key: names for key, names in takers.items() if len(names) >= MANY}
    parts = []
    for plugin in found:
        said = "\n\n".join(map(unwrapped, (inspect.getdoc(plugin.function) or "").split("\n\n")))
        said += f"\n\nAxis: {plugin.axis}." if plugin.axis else ""
        own = [key for key in keys[plugin.name] if key not in common]
        parts += [f"#### {plugin.name}", said, keys_table(own)]
    if common:
        rows = [
            (
                f"`{key.name}`",
                key.type,
                key.default,
                key.meaning,
                ", ".join(f"`{n}`" for n in names),
            )
            for key, names in common.items()
        ]
        parts += [
            "#### Settings in common",
            table(("setting", "type", "default", "meaning", "taken by"), rows),
        ]
    return "\n\n".join(part for part in parts if part)


def sft_text() -> str:
    """Return the settings of the fine-tuning that all rows start from."""
    from harness.stages.finetune import finetune

    rows = [
        (f"`{name}`", type_name(finetune.hints[name]), default_text(parameter.default), SFT[name])
        for name, parameter in finetune.signature.parameters.items()
        if name not in ("policy", "data", "seed")
    ]
    return table(("setting", "type", "default", "meaning"), rows)


def study_text() -> str:
    """Return every key of a study: those of the file, then those of each table of fixed shape."""
    titles = ("key", "type", "default", "range", "meaning")
    return "\n\n".join(
        f"#### {place}\n\n{unwrapped(said)}\n\n{table(titles, rows)}"
        for place, said, rows in tables_of(StudyFile, TOP)
    )


def tables_of(model: type[Table], place: str) -> Iterator[tuple[str, str, list[tuple[str, ...]]]]:
    """Yield the place, docstring and keys of a table and of the tables in it, outermost first."""
    inner: list[tuple[str, type[Table]]] = []
    rows: list[tuple[str, ...]] = []
    for name, field in model.model_fields.items():
        default = Parameter.empty if field.is_required() else field.default
        key = field.alias or name
        found, many = table_in(field.annotation)
        if found is not None:
            path = key if place == TOP else f"{place.strip('`[]')}.{key}"
            inner.append((f"`[{path}{'.LABEL' if many else ''}]`", found))
        said = field.description or ""
        limits = limits_text(field.metadata)
        rows.append((f"`{key}`", type_name(field.annotation), default_text(default), limits, said))
    yield place, inspect.getdoc(model) or "", rows
    for path, found in inner:
        yield from tables_of(found, path)


def limits_text(metadata: Iterable[object]) -> str:
    """Return what pydantic holds a number to: `>= 0, < 1`."""
    found = [
        f"{sign} {toml_text(getattr(limit, name))}"
        for limit in metadata
        for name, sign in LIMITS.items()
        if hasattr(limit, name)
    ]
    return ", ".join(found)


def table_in(annotation: Any) -> tuple[type[Table] | None, bool]:
    """Return the table that a key holds, if it does, and whether it holds many under labels."""
    inside = typing.get_args(annotation)
    if typing.get_origin(annotation) is dict:
        return table_in(inside[1])[0], True
    for one in (annotation, *inside):
        if inspect.isclass(one) and issubclass(one, Table):
            return one, False
    return None, False


def modules_text(folder: Path) -> str:
    """Return the modules of a folder and of the folders in it, each with its docstring's claim."""
    rows = []
    for file in sorted(folder.rglob("*.py")):
        said = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8")))
        name = file.relative_to(folder).with_suffix("").as_posix().removesuffix("/__init__")
        if said and name != "__init__":
            rows.append((f"`{name}`", unwrapped(said.split("\n\n")[0])))
    return table(("module", "what it does"), rows)
