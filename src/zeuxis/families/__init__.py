"""The families: how models are trained and sampled. The only place where a new family is named."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from zeuxis.config import ImageSpec, override
from zeuxis.errors import UserError
from zeuxis.families.autoregressive.objective import Autoregressive
from zeuxis.families.base import Family, Preset
from zeuxis.families.gan.objective import GAN
from zeuxis.families.vae.objective import VAE

FAMILIES: dict[str, type[Family]] = {
    "gan": GAN,
    "vae": VAE,
    "autoregressive": Autoregressive,
}


def model_names() -> Iterator[tuple[str, Preset]]:
    """Every full model name `family/network/preset` with its preset, defaults first."""
    for family, cls in FAMILIES.items():
        for network, presets in cls.presets().items():
            for preset, entry in presets.items():
                yield f"{family}/{network}/{preset}", entry


def resolve_name(name: str, option: str = "--model") -> str:
    """The full `family/network/preset` of a model name; short forms are allowed where unique, else `UserError`.

    A family stands for its first network, a network for its first preset; `dcgan` and `dcgan/tiny` leave the family
    out.
    """
    full = [key for key, _ in model_names()]
    parts = name.split("/")
    if parts[0] in FAMILIES:
        matches = [key for key in full if key.split("/")[: len(parts)] == parts]
        found = {key.split("/")[0] for key in matches}
    else:
        matches = [key for key in full if key.split("/")[1 : len(parts) + 1] == parts]
        found = {key.split("/")[0] for key in matches}
    if len(found) > 1:
        spelled = ", ".join(f"{family}/{name}" for family in sorted(found))
        raise UserError(option, name, spelled, "say which family is meant")
    if not matches:
        raise UserError(
            option, name, ", ".join([*FAMILIES, *full]), "a short form such as dcgan/tiny works where unique"
        )
    return matches[0]


def clip_length(name: str) -> int:
    """Frames of a usual clip for the network of a full or short model name; 1 for a network of pictures."""
    family, network, _ = resolve_name(name).split("/")
    return FAMILIES[family].clip_length(network)


def make_family(name: str, spec: ImageSpec, classes: int = 0, settings: Mapping[str, Any] | None = None) -> Family:
    """The family bound to the preset of a full or short model name, with dotted `settings` put over the preset's."""
    family, network, preset = resolve_name(name).split("/")
    cls = FAMILIES[family]
    base = cls(network, cls.presets()[network][preset].settings, spec, classes)
    return _fitting(cls(network, override(base.settings, settings or {}), spec, classes))


def family_from_settings(family: str, network: str, settings: Any, spec: ImageSpec, classes: int) -> Family:
    """The family bound to complete `settings`, as a model folder or run stores them; foreign values are `UserError`."""
    if family not in FAMILIES:
        raise UserError("family", family, ", ".join(FAMILIES), "the model needs a newer Zeuxis")
    if network not in FAMILIES[family].presets():
        raise UserError("network", network, ", ".join(FAMILIES[family].presets()), "the model needs a newer Zeuxis")
    return _fitting(FAMILIES[family](network, settings, spec, classes))


def _fitting(family: Family) -> Family:
    """Refuses clips for a network of pictures; a network over frames refuses pictures by itself."""
    if family.spec.frames > 1 and not family.context:
        allowed = "a network over frames: convlstm, predrnn or svg"
        raise UserError("--model", f"{family.name}/{family.network}", allowed, "or leave --frames out")
    return family
