"""Writes docs/reference.md from the program's own tables: `make docs`. Nothing in that page is written by hand."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import typer
from typer.models import ArgumentInfo

from zeuxis.cli import app
from zeuxis.config import Config, ImageSpec, choices
from zeuxis.families import FAMILIES, make_family
from zeuxis.families.base import Preset
from zeuxis.metrics import METRICS
from zeuxis.metrics.extractors import EXTRACTORS

PAGE = Path(__file__).parent / "reference.md"
HEAD = """# Reference

Written by `make docs` from the program's own tables. To change this page, change the program.

- [Commands](#commands)
- [Model names](#model-names)
- [Settings](#settings)
- [Metrics](#metrics)
- [Extractors](#extractors)
"""


def page() -> str:
    """The whole page as Markdown."""
    parts = [HEAD, "## Commands\n", *commands(), "## Model names\n", *models(), "## Settings\n", *settings()]
    parts += ["## Metrics\n", *metrics(), "## Extractors\n", *extractors()]
    return "\n".join(parts).rstrip() + "\n"


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table; bars in cells are escaped."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)


# -- commands ------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Parameter:
    """An argument (no `flags`) or option of a verb: how it is written, its default and its line of help."""

    written: str
    flags: tuple[str, ...]
    default: str
    about: str


@dataclass(frozen=True)
class Verb:
    """A verb with its groups, such as `data check`."""

    name: str
    about: str
    parameters: tuple[Parameter, ...]


def verbs(app: typer.Typer = app, prefix: str = "") -> Iterator[Verb]:
    """Every verb of the command line, read from the signatures of its functions."""
    for command in app.registered_commands:
        function = command.callback
        assert function is not None
        name = command.name or function.__name__
        hints = get_type_hints(function, include_extras=True)
        parameters = [
            parameter(each, hints[each.name])
            for each in inspect.signature(function).parameters.values()
            if get_origin(hints[each.name]) is Annotated  # what is not is typer's own, such as a context
        ]
        yield Verb(prefix + name, sentence(inspect.getdoc(function)), tuple(parameters))
    for group in app.registered_groups:
        assert group.typer_instance is not None
        yield from verbs(group.typer_instance, f"{prefix}{group.name or group.typer_instance.info.name} ")


def parameter(own: inspect.Parameter, hint: Any) -> Parameter:
    """One line of a verb's table."""
    kind, info = get_args(hint)[:2]
    kinds = [each for each in (get_args(kind) or (kind,)) if each is not type(None)]
    required = own.default is inspect.Parameter.empty
    about = sentence(info.help)
    if isinstance(info, ArgumentInfo):
        name = info.metavar or own.name.upper()
        return Parameter(name if required else f"[{name}]", (), "", about)
    # Inside `Annotated` typer takes the first flag for its `default`.
    given = [each for each in (info.default, *(info.param_decls or ())) if isinstance(each, str)]
    flags = tuple(flag for each in given or [f"--{own.name.replace('_', '-')}"] for flag in each.split("/"))
    value = "" if kinds[0] is bool else f" {info.metavar or value_name(kinds[0])}"
    silent = own.default is None or own.default == "" or isinstance(own.default, bool)
    default = "required" if required else "" if silent else f"`{plain(own.default)}`"
    return Parameter(" / ".join(flags) + value, flags, default, about)


def value_name(kind: Any) -> str:
    """The values of a choice, or what kind of thing is expected."""
    if isinstance(kind, type) and issubclass(kind, Enum):
        return "|".join(str(each.value) for each in kind)
    return {int: "INTEGER", float: "NUMBER", str: "TEXT", Path: "PATH"}.get(kind, "TEXT")


def commands() -> Iterator[str]:
    for verb in verbs():
        arguments = [each.written for each in verb.parameters if not each.flags]
        usage = " ".join(["zeuxis", verb.name, *arguments, "[OPTIONS]"])
        yield f"### zeuxis {verb.name}\n\n`{usage}`\n\n{verb.about}\n"
        rows = [[f"`{each.written}`", each.default, each.about] for each in verb.parameters]
        yield table(["", "default", "what it is"], rows)


def plain(value: Any) -> str:
    """An enumeration's value, a path or a number as a user types it."""
    return str(getattr(value, "value", value))


def sentence(text: str | None) -> str:
    """Whitespace and line breaks of a docstring as single spaces."""
    return re.sub(r"\s+", " ", text or "").strip()


# -- models --------------------------------------------------------------------------------------------------------
def models() -> Iterator[str]:
    yield (
        "`--model` takes `FAMILY[/NETWORK[/PRESET]]`. A family stands for its first network, a network for its first\n"
        "preset. The family may be left out where the network's name is unique: `dcgan/tiny`.\n"
    )
    rows = [
        [f"`{family}/{network}/{preset}`", entry.about]
        for family, network, presets in networks()
        for preset, entry in presets.items()
    ]
    yield table(["model name", "what it is"], rows)
    rows = [
        [f"`{name}`", ", ".join(f"`--{each}`" for each in family.render_options) or "none",
         ", ".join(f"`{each}`" for each in sorted(family.capabilities)) or "sample only"]
        for name, family in FAMILIES.items()
    ]  # fmt: skip
    yield table(["family", "sampling options", "can"], rows)


def networks() -> Iterator[tuple[str, str, dict[str, Preset]]]:
    for family, cls in FAMILIES.items():
        for network, presets in cls.presets().items():
            yield family, network, dict(presets)


def settings() -> Iterator[str]:
    yield (
        "Each can be set by `--set GROUP.KEY=VALUE`, such as `--set network.width=64`. `training.batch` is also\n"
        "`--batch`. Lengths such as `training.ema` and `training.warmup` are shares of the run.\n"
    )
    for family, network, presets in networks():
        spec = ImageSpec(height=32, width=32, frames=FAMILIES[family].clip_length(network))
        bound = {preset: make_family(f"{family}/{network}/{preset}", spec) for preset in presets}
        first = next(iter(bound.values()))
        groups = {"network": first.config, "objective": first.objective, "training": first.training}  # type: ignore[attr-defined]
        rows = [
            [f"`{group}.{key}`", allowed(type(config), key)]
            + [plain_setting(each.settings[group][key]) for each in bound.values()]
            for group, config in groups.items()
            for key in type(config).model_fields
        ]
        yield f"### {family}/{network}\n"
        yield table(["key", "allowed", *(f"`{preset}`" for preset in presets)], rows)


def plain_setting(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


SIGNS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}


def allowed(config: type[Config], key: str) -> str:
    """The choices or the range of a setting, as its configuration checks them."""
    field = config.model_fields[key]
    if named := choices(field.annotation):
        return ", ".join(map(str, named))
    if field.annotation is bool:
        return "true, false"
    bounds = [
        f"{sign} {getattr(rule, word):g}"
        for rule in field.metadata
        for word, sign in SIGNS.items()
        if hasattr(rule, word)
    ]
    return ", ".join(bounds)


# -- judging -------------------------------------------------------------------------------------------------------
def metrics() -> Iterator[str]:
    yield "Names for `--metrics`. What each means, and when not to trust it: [evaluation](evaluation.md).\n"
    rows = [
        [f"`{name}`", f"`{value}`", title, better, metric.group]
        for name, metric in METRICS.items()
        for value, (title, better) in metric.values.items()
    ]
    yield table(["name", "value", "what it is", "better", "group"], rows)


def extractors() -> Iterator[str]:
    yield "Names for `--features`: what turns pictures into the features that metrics compare.\n"
    rows = [[f"`{name}`", sentence(inspect.getdoc(make))] for name, make in EXTRACTORS.items()]
    yield table(["name", "what it is"], rows)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
