"""Frozen, checked configuration: what was asked for and what was resolved. Never imports torch, so `--help` stays
instant."""

from __future__ import annotations

import hashlib
import json
import types
from collections.abc import Mapping
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from zeuxis.errors import UserError

Precision = Literal["float32", "bfloat16"]  # of products; weights, norms and sums stay float32
MAX_SIDE = 8192  # no generator here is larger; a foreign config must not ask for terabytes

C = TypeVar("C", bound="Config")


class Config(BaseModel):
    """Base of every configuration: immutable, unknown keys refused, JSON in and out."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def to_json(self) -> dict[str, Any]:
        """The configuration as plain JSON values; `parse(type(self), ...)` of it is equal to this one."""
        return self.model_dump(mode="json")


class ImageSpec(Config):
    """What a picture is: every network is built from this.

    `height` and `width` in pixels (multiples of 4), `channels` 1 grey, 3 RGB, 4 RGBA, `frames` 1 for a picture,
    `wrap_x`/`wrap_y` whether the left and right (top and bottom) edges continue into each other.
    """

    height: int = Field(ge=4, le=MAX_SIDE, multiple_of=4)
    width: int = Field(ge=4, le=MAX_SIDE, multiple_of=4)
    channels: Literal[1, 3, 4] = 3
    frames: int = Field(default=1, ge=1, le=4096)
    wrap_x: bool = False
    wrap_y: bool = False

    @property
    def shape(self) -> tuple[int, int, int]:
        """`(C, H, W)` of one frame."""
        return (self.channels, self.height, self.width)

    @property
    def item_shape(self) -> tuple[int, ...]:
        """What one place of a batch is: `(C, H, W)` of a picture, `(T, C, H, W)` of a clip."""
        return self.shape if self.frames == 1 else (self.frames, *self.shape)

    @property
    def size(self) -> int:
        """Values in one frame: C * H * W."""
        return self.channels * self.height * self.width

    def __str__(self) -> str:
        colour = {1: "grey", 3: "RGB", 4: "RGBA"}[self.channels]
        wrap = "".join(axis for axis, on in (("x", self.wrap_x), ("y", self.wrap_y)) if on)
        frames = f", {self.frames} frames" if self.frames > 1 else ""
        return f"{self.width}x{self.height} {colour}" + (f" wrap {wrap}" if wrap else "") + frames


class DataOptions(Config):
    """How pictures are read: what `zeuxis train` and `zeuxis data` were told about the data.

    `resolution` is "auto" or (height, width); `fit` says how another shape is brought to it; `test_fraction` and
    `val_fraction` are cut by `split_seed` where the source has no such split of its own (each is capped at 10,000).
    """

    resolution: Literal["auto"] | tuple[int, int] = "auto"
    fit: Literal["crop", "pad", "stretch"] = "crop"
    channels: Literal["auto", 1, 3, 4] = "auto"
    frames: int = Field(default=1, ge=1, le=4096)
    wrap: Literal["", "x", "y", "xy"] = ""
    split_seed: int = 0
    test_fraction: float = Field(default=0.1, ge=0.0, lt=0.9)
    val_fraction: float = Field(default=0.05, ge=0.0, lt=0.9)
    max_pixels: int = Field(default=100_000_000, ge=1)

    @model_validator(mode="after")
    def _sides(self) -> DataOptions:
        if self.resolution != "auto":
            ImageSpec(height=self.resolution[0], width=self.resolution[1])
        return self


class TrainOptions(Config):
    """What `zeuxis train` was asked for; two runs have the same settings when these and the data are equal.

    `budget` in seconds over all sittings, from process start to exit; `kimg` thousands of images to show; with
    neither, the preset's own length. `batch` None takes the preset's. `settings` are dotted keys over the preset's.
    `labels` hides the classes of all but so many training pictures; `init` is the path of the model or run whose
    weights are begun with.
    """

    model: str = "gan"
    budget: float | None = Field(default=None, gt=0, lt=1e9)
    kimg: float | None = Field(default=None, gt=0, lt=1e9)
    batch: int | None = Field(default=None, ge=1, le=65536)
    micro_batch: int | None = Field(default=None, ge=1, le=65536)
    conditional: bool = False
    semi_supervised: bool = False
    labels: int | None = Field(default=None, ge=1)
    init: str | None = None
    mirror: bool = False
    device: str = "auto"
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    kernels: Literal["auto", "plain", "patches", "winograd", "graphs"] = "auto"
    seed: int = Field(default=0, ge=0, lt=2**63)
    snapshots: int = Field(default=10, ge=1, le=1000)
    settings: dict[str, Any] = Field(default_factory=dict)
    data: DataOptions = DataOptions()


def parse_resolution(text: str) -> Literal["auto"] | tuple[int, int]:
    """`auto`, `32` or `320x192` (width x height) as (height, width); anything else is a `UserError`."""
    if text == "auto":
        return "auto"
    sides = text.lower().split("x")
    allowed = "auto, a side such as 64, or WIDTHxHEIGHT such as 320x192, each a multiple of 4"
    if len(sides) not in (1, 2) or not all(side.isdigit() for side in sides):
        raise UserError("--resolution", text, allowed, "try --resolution auto")
    width, height = int(sides[0]), int(sides[-1])
    if any(side % 4 or not 4 <= side <= MAX_SIDE for side in (width, height)):
        near = "x".join(str(min(max(4, round(side / 4) * 4), MAX_SIDE)) for side in (width, height))
        raise UserError("--resolution", text, allowed, f"the nearest is --resolution {near}")
    return (height, width)


def parse(cls: type[C], values: Mapping[str, Any], option: str) -> C:
    """Makes a `cls` from plain values; the first problem becomes a `UserError` naming `option`, key, value and
    choices. The `option` "--" says that each key is an option of the command line."""
    try:
        return cls.model_validate(dict(values))
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in problem["loc"])
        where = f"--{key.replace('_', '-')}" if option == "--" else f"{option} {key}".strip()
        if problem["type"] == "extra_forbidden":
            fields = ", ".join(sorted(cls.model_fields))
            raise UserError(where, problem["input"], f"one of the keys {fields}", f"remove {key}") from None
        see = "see `zeuxis train --help`" if option == "--" else "see `zeuxis info` for the settings of a model"
        raise UserError(where, problem["input"], problem["msg"], see) from None


def override(values: Mapping[str, Any], settings: Mapping[str, Any], option: str = "--set") -> dict[str, Any]:
    """A copy of nested `values` with dotted `settings` (`network.width=64`) put in; every key must exist already."""
    result = json.loads(json.dumps(dict(values)))
    for dotted, value in settings.items():
        *parents, last = dotted.split(".")
        place = result
        for parent in parents:
            place = place.get(parent) if isinstance(place, dict) else None
        if not isinstance(place, dict) or last not in place or isinstance(place[last], dict):
            raise UserError(option, dotted, f"one of {', '.join(dotted_keys(values))}", "check the spelling of the key")
        place[last] = value
    return result


def dotted_keys(values: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Every leaf of nested `values` as a dotted key, in order."""
    keys: list[str] = []
    for key, value in values.items():
        keys += dotted_keys(value, f"{prefix}{key}.") if isinstance(value, Mapping) else [prefix + key]
    return keys


def parse_duration(text: str, option: str = "--budget") -> float:
    """`90s`, `10m`, `1.5h` or plain seconds, as seconds."""
    units = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
    number, unit = (text[:-1], text[-1]) if text[-1:] in units else (text, "s")
    try:
        seconds = float(number) * units[unit]
    except ValueError:
        seconds = -1.0
    if not 0 < seconds < 1e9:
        raise UserError(option, text, "a time such as 90s, 10m or 1.5h", "try --budget 10m")
    return seconds


def parse_settings(pairs: list[str]) -> dict[str, Any]:
    """`["network.width=64", "objective.loss=minimax"]` as a dict; values are JSON where they parse as JSON, else
    text."""
    settings: dict[str, Any] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals or not key:
            raise UserError("--set", pair, "key=value, such as network.width=64", "put an equals sign between them")
        try:
            settings[key] = json.loads(text)
        except json.JSONDecodeError:
            settings[key] = text
    return settings


def fingerprint(value: Any) -> str:
    """SHA-256 of `value` as canonical JSON, 64 hexadecimal digits."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def choices(annotation: Any) -> list[Any]:
    """The values of a `Literal` (also inside a union), for error texts and help."""
    if get_origin(annotation) is Literal:
        return list(get_args(annotation))
    if get_origin(annotation) in (Union, types.UnionType):
        return [choice for part in get_args(annotation) for choice in choices(part)]
    return []
