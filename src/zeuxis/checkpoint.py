"""The two artefacts, never one: the resume state (everything the loop changes) and the model folder (what is shared).

Both are safetensors and JSON, written atomically and with a checksum; nothing in them can run code.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load as load_tensors
from safetensors.torch import save as dump_tensors
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from zeuxis import __version__
from zeuxis.config import ImageSpec, parse
from zeuxis.errors import StateError, UserError, ZeuxisError
from zeuxis.families import family_from_settings
from zeuxis.families.base import Family
from zeuxis.files import recover_folder, replacing_folder, write_bytes, write_json

MODEL_FORMAT = 2
STATE_FORMAT = 2
MOST_MOMENTS = 8  # of a run whose averages are kept, two at each
MAX_JSON = 16 * 2**20  # a config or header larger than this is not ours
WEIGHTS, CONFIG = "model.safetensors", "config.json"


def _colour_times_alpha(config: dict[str, Any]) -> dict[str, Any]:
    """In format 1 a GAN for pictures with transparency makes the product of colour and alpha."""
    settings = config.get("settings")
    if config.get("family") == "gan" and isinstance(settings, dict) and isinstance(settings.get("network"), dict):
        settings["network"].setdefault("straight", False)
    return config


# From a model folder's `format_version` to the next: every version ever released stays loadable.
MIGRATIONS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {1: _colour_times_alpha}


@dataclass(frozen=True)
class Model:
    """Averaged networks with what is needed to sample them; `hash` is the SHA-256 of the weights file."""

    family: Family
    networks: dict[str, nn.Module]
    name: str
    classes: tuple[str, ...] = ()
    class_counts: tuple[int, ...] = ()
    hash: str = ""
    about: dict[str, Any] = field(default_factory=dict)  # images seen, data, metrics: for people

    @property
    def drawn_classes(self) -> tuple[str, ...]:
        """The classes that pictures are made of; none for a model that only tells `classes` apart."""
        return self.classes if self.family.conditional else ()

    @property
    def spec(self) -> ImageSpec:
        """The pictures it makes."""
        return self.family.spec


def save_model(model: Model, folder: Path, extras: Callable[[Path, str], None] | None = None) -> str:
    """Writes a model folder, replacing an older one as a whole; returns the SHA-256 of the weights.

    `extras` may put more files (card, samples) into the folder before it takes its place; it gets the folder and hash.
    """
    content = dump_tensors(_on_cpu({f"{part}.{key}": value for part, network in model.networks.items()
                                    for key, value in network.state_dict().items()}))  # fmt: skip
    digest = hashlib.sha256(content).hexdigest()
    config = {
        "format_version": MODEL_FORMAT, "library": f"zeuxis {__version__}", "model": model.name,
        "family": model.family.name, "network": model.family.network, "settings": model.family.settings,
        "spec": model.spec.to_json(), "classes": list(model.classes), "class_counts": list(model.class_counts),
        "capabilities": sorted(model.family.capabilities), "sha256": digest, "about": model.about,
    }  # fmt: skip
    with replacing_folder(folder) as place:
        write_bytes(place / WEIGHTS, content)
        write_json(place / CONFIG, config)
        if extras:
            extras(place, digest)
    return digest


def weights_hash(networks: Mapping[str, nn.Module]) -> str:
    """SHA-256 of the names and values of all parameters and buffers, 64 hexadecimal digits."""
    digest = hashlib.sha256()
    for part, network in sorted(networks.items()):
        for key, value in network.state_dict().items():
            digest.update(
                f"{part}.{key}".encode() + dump_tensors({"": value.detach().to("cpu", copy=True).contiguous()})
            )
    return digest.hexdigest()


class Undrawn(TorchFunctionMode):
    """Within the block, tensors are not filled with first values: on `meta` there is nothing to fill, and yet a normal
    draw there loads PyTorch's compiler, which takes as long as everything else that sampling loads."""

    DRAWS = frozenset({Tensor.normal_, Tensor.uniform_})

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if function in self.DRAWS or getattr(function, "__module__", None) == "torch.nn.init":
            return args[0] if args else kwargs["tensor"]
        return function(*args, **kwargs)


def load_model(path: str | Path) -> Model:
    """Reads a model folder (or the `model/` of a run folder) written by any version of Zeuxis.

    A foreign folder is checked before anything is allocated: the networks are made on `meta`, and every name, shape
    and type in the weights' header must be theirs. Errors are one line (`UserError`).
    """
    folder = find_model(Path(path))
    config = _read_config(folder)
    try:
        family, classes, counts = _family_of(config)
        with torch.device("meta"), Undrawn():
            networks = {part: net for part, net in family.build().items() if part in family.model_parts}
        tensors, digest = _read_weights(folder / WEIGHTS, networks)
    except (KeyError, TypeError, ValueError, RuntimeError, OverflowError, AttributeError) as error:
        raise UserError(
            "MODEL", str(folder), "a model folder written by Zeuxis", f"its config is damaged: {error}"
        ) from None
    for part, network in networks.items():
        values = {key[len(part) + 1 :]: value for key, value in tensors.items() if key.startswith(part + ".")}
        network.load_state_dict(values, assign=True)
        network.eval().requires_grad_(False)
    return Model(family, networks, str(config["model"]), classes, counts, digest, config.get("about", {}))


def find_model(path: Path) -> Path:
    """The model folder meant by `path`: itself, or the `model` folder inside a run."""
    for folder in (path / "model", path):
        if folder.parent.is_dir():
            recover_folder(folder)
        if (folder / CONFIG).is_file() and (folder / WEIGHTS).is_file():
            return folder
    if (path / "state").is_dir():
        raise UserError("MODEL", str(path), "a model folder", "this run has no snapshot yet; wait for its first one")
    raise UserError("MODEL", str(path), f"a folder with {CONFIG} and {WEIGHTS}", "train one with `zeuxis train DATA`")


def _read_config(folder: Path) -> dict[str, Any]:
    file = folder / CONFIG
    if file.stat().st_size > MAX_JSON:
        raise UserError("MODEL", str(folder), f"a config under {MAX_JSON} bytes", "this is not a model of Zeuxis")
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
        version = config["format_version"]
        if type(version) is not int or version < 1:
            raise ValueError(f"format_version {version!r}")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError("MODEL", str(folder), "a config.json with format_version", f"it is damaged: {error}") from None
    if version > MODEL_FORMAT:
        raise UserError("MODEL", f"format {version}", f"formats 1 to {MODEL_FORMAT}", "update: pip install -U zeuxis")
    while version < MODEL_FORMAT:
        config, version = MIGRATIONS[version](config), version + 1
    return config


def _family_of(config: Mapping[str, Any]) -> tuple[Family, tuple[str, ...], tuple[int, ...]]:
    spec = parse(ImageSpec, config["spec"], "spec")
    if not isinstance(config["classes"], list) or not isinstance(config.get("about", {}), dict):
        raise ValueError("classes is a list and about an object")
    classes = tuple(str(name) for name in config["classes"])
    counts = tuple(int(count) for count in config["class_counts"])
    if len(classes) != len(counts) or any(not 0 <= count < 2**53 for count in counts):
        raise ValueError("one count per class is needed")
    family = family_from_settings(config["family"], config["network"], config["settings"], spec, len(classes))
    if not str(config["model"]).startswith(f"{family.name}/{family.network}/"):
        raise ValueError(f"{config['model']!r} is not the name of a {family.name}/{family.network}")
    return family, classes, counts


def _read_weights(file: Path, networks: Mapping[str, nn.Module]) -> tuple[dict[str, Tensor], str]:
    """Tensors by name and the file's SHA-256; refuses a file whose header is not exactly that of `networks`."""
    wanted = {f"{part}.{key}": (list(value.shape), value.dtype) for part, network in networks.items()
              for key, value in network.state_dict().items()}  # fmt: skip
    with open(file, "rb") as raw:
        header = int.from_bytes(raw.read(8), "little")
    if header > min(MAX_JSON, file.stat().st_size):
        raise ValueError(f"{file.name} claims a header of {header} bytes")
    try:
        with safe_open(file, framework="pt") as weights:
            found = {key: weights.get_slice(key).get_shape() for key in weights.keys()}  # noqa: SIM118
        if found != {key: shape for key, (shape, _) in wanted.items()}:
            odd = sorted(set(found) ^ set(wanted)) or [key for key in wanted if found[key] != wanted[key][0]]
            raise ValueError(f"{file.name} does not fit its config at {odd[0]}")
        content = file.read_bytes()
        tensors = load_tensors(content)
    except SafetensorError as error:
        raise ValueError(f"{file.name} is damaged: {error}") from None
    for key, (_, dtype) in wanted.items():
        if tensors[key].dtype != dtype:
            raise ValueError(f"{file.name} has {key} as {tensors[key].dtype}, not {dtype}")
    return tensors, hashlib.sha256(content).hexdigest()


def _on_cpu(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Own, contiguous copies: parameters are views of one vector, which safetensors refuses to write."""
    return {key: value.detach().to("cpu", copy=True).contiguous() for key, value in tensors.items()}


class AverageStore:
    """The averages of a run that others are made from after training: at most `MOST_MOMENTS` files of two averages."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def save(self, images_seen: int, tensors: Mapping[str, Tensor], count: int) -> None:
        """Keeps the averages of the first `count` steps. Where there are too many moments, the one nearest to its
        neighbours goes."""
        self.folder.mkdir(exist_ok=True)
        content = dump_tensors(_on_cpu(tensors), metadata={"count": str(count)})
        write_bytes(self.folder / f"{images_seen:012d}.safetensors", content)
        names = self._names()
        while len(names) > MOST_MOMENTS:
            gaps = [names[place + 1] - names[place - 1] for place in range(1, len(names) - 1)]
            (self.folder / f"{names.pop(1 + gaps.index(min(gaps))):012d}.safetensors").unlink()

    def drop_after(self, images_seen: int) -> None:
        """Removes what was kept after `images_seen`."""
        for name in self._names():
            if name > images_seen:
                (self.folder / f"{name:012d}.safetensors").unlink()

    def load(self) -> list[tuple[int, dict[str, Tensor]]]:
        """Steps and tensors of every moment, oldest first; what cannot be read is left out."""
        found = []
        for name in self._names():
            with contextlib.suppress(OSError, SafetensorError, KeyError, ValueError):
                file = self.folder / f"{name:012d}.safetensors"
                with safe_open(file, framework="pt") as opened:
                    count = int(opened.metadata()["count"])
                found.append((count, load_tensors(file.read_bytes())))
        return found

    def _names(self) -> list[int]:
        return sorted(int(file.stem) for file in self.folder.glob("[0-9]*.safetensors"))


class StateStore:
    """The resume states of a run: the last two and the best, each a safetensors file and the JSON that completes it.

    The JSON is written last and holds the checksum of the tensors, so a state without a fitting JSON does not exist.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def save(
        self, images_seen: int, tensors: Mapping[str, Tensor], values: Mapping[str, Any], best: bool = False,
        keep: Sequence[int] = (),
    ) -> None:  # fmt: skip
        """Writes one state; `best` marks it to be kept, `keep` names more by their images seen. An `OSError` (full
        disk) leaves the older states intact."""
        self.folder.mkdir(exist_ok=True)
        name = f"{images_seen:012d}"
        content = dump_tensors(_on_cpu(tensors))
        write_bytes(self.folder / f"{name}.safetensors", content)
        document = {
            "format_version": STATE_FORMAT, "images_seen": images_seen,
            "sha256": hashlib.sha256(content).hexdigest(), "values": dict(values),
        }  # fmt: skip
        write_json(self.folder / f"{name}.json", document)
        if best:
            write_json(self.folder / "best.json", {"name": name})
        self._prune({f"{images:012d}" for images in keep})

    def drop_after(self, images_seen: int) -> None:
        """Removes the states after `images_seen`, which are not to be gone on from: first what says they are whole."""
        for name in self.names():
            if int(name) > images_seen:
                for ending in ("json", "safetensors"):
                    (self.folder / f"{name}.{ending}").unlink(missing_ok=True)

    def names(self) -> list[str]:
        """Names of the states that claim to be complete, oldest first."""
        return sorted(file.stem for file in self.folder.glob("[0-9]*.json")) if self.folder.is_dir() else []

    def best_name(self) -> str | None:
        """The state that was best by the metric when it was saved."""
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            return str(json.loads((self.folder / "best.json").read_text())["name"])
        return None

    def load(self, name: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors and values of one state; `StateError` where it is torn."""
        try:
            document = json.loads((self.folder / f"{name}.json").read_text(encoding="utf-8"))
            content = (self.folder / f"{name}.safetensors").read_bytes()
            if document["format_version"] != STATE_FORMAT:
                raise StateError(f"state {name} is of format {document['format_version']}, not {STATE_FORMAT}")
            if hashlib.sha256(content).hexdigest() != document["sha256"]:
                raise StateError(f"state {name} is torn (its checksum does not fit)")
            return load_tensors(content), document["values"]
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            raise StateError(f"state {name} cannot be read ({error})") from None

    def load_latest(self) -> tuple[tuple[dict[str, Tensor], dict[str, Any]] | None, list[str]]:
        """The newest state that is whole, or None, and one line for each newer one that had to be passed over."""
        notes: list[str] = []
        for name in reversed(self.names()):
            try:
                return self.load(name), notes
            except ZeuxisError as error:
                notes.append(f"{error}; falling back to the one before")
        return None, notes

    def _prune(self, more: set[str]) -> None:
        names = self.names()
        keep = {*names[-2:], *more, self.best_name()}
        for file in self.folder.iterdir():
            if file.stem not in keep and file.name != "best.json":
                with contextlib.suppress(OSError):
                    file.unlink()
