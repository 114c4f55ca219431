"""A folder that makes pictures inside a browser page: the ONNX file, onnxruntime-web and one page, no server beyond a
static one."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch

from zeuxis.checkpoint import Model
from zeuxis.errors import UserError
from zeuxis.export.onnx_file import LABELS, Parity, export_onnx, fixed_noise, input_names
from zeuxis.families.base import RenderOptions
from zeuxis.files import replacing_folder, write_bytes, write_json
from zeuxis.images import provenance
from zeuxis.sampling import Sampler, synthetic_mark

RUNTIME = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
VARIABLE = "ZEUXIS_ORT_WEB"
PACKAGE = "onnxruntime-web"
CHECKED = 8  # fixed noises that the page can be checked with
README = """# A picture generator for the browser

Serve this folder as it is, for instance by `python -m http.server` in it, and open the page. Nothing is fetched from
anywhere else. Opening index.html from the disk does not work: browsers do not load modules from files.

- `model.onnx`: the generator, {name}, SHA-256 of its weights {hash}.
- `index.html`, `app.mjs`, `config.json`: the page.
- `ort*`: onnxruntime-web {version}, MIT licence, Microsoft, https://github.com/microsoft/onnxruntime.

Pictures that the page makes are synthetic, and the PNG files that it saves say so in their XMP.
The same seed makes the same picture in every browser, and another one than `zeuxis sample` makes of it.
"""


def export_web(model: Model, folder: Path, *, runtime: Path | None = None) -> Parity:
    """Writes (or replaces) `folder`; `runtime` is the folder of an installed onnxruntime-web, else it is looked for in
    `node_modules` here and above, and where the variable ZEUXIS_ORT_WEB says."""
    place = find_runtime(runtime)
    _not_foreign(folder)
    page = files("zeuxis.export") / "page"
    with replacing_folder(folder) as new:
        parity = export_onnx(model, new / "model.onnx")
        write_json(new / "config.json", page_config(model))
        write_json(new / "check.json", fixed_noise(model, CHECKED))
        for name in ("index.html", "app.mjs"):
            write_bytes(new / name, (page / name).read_bytes())
        for name in RUNTIME:
            write_bytes(new / name, (place / name).read_bytes())
        readme = README.format(name=model.name, hash=model.hash, version=_version(place))
        write_bytes(new / "README.md", readme.encode())
    return parity


def page_config(model: Model) -> dict[str, Any]:
    """What the page needs to know."""
    spec, noise = model.spec, Sampler(model).noise([0])
    scaled = "z" if "z" in noise and _scales(model) else ""
    uniform = bool(model.family.settings.get("network", {}).get("uniform"))
    return {
        "name": model.name, "width": spec.width, "height": spec.height, "channels": spec.channels,
        "wrap": [spec.wrap_x, spec.wrap_y], "classes": list(model.classes), "counts": list(model.class_counts),
        "inputs": [{"name": name, "shape": list(noise[name].shape[1:]), "uniform": uniform and name == "z"}
                   for name in input_names(model) if name != LABELS],
        "scaled": scaled,  # the noise that truncation or temperature scales
        "mark": synthetic_mark(model), "xmp": provenance(),
    }  # fmt: skip


def _scales(model: Model) -> bool:
    """Whether truncation (or temperature) is nothing but a factor of z; with a mapping network it is more."""
    sampler = Sampler(model)
    noise, labels = sampler.noise([0]), sampler.labels([0], None)
    halves = {"truncation": RenderOptions(truncation=0.5), "temperature": RenderOptions(temperature=0.5)}
    options = next((halves[name] for name in model.family.render_options if name in halves), None)
    if options is None:
        return False
    with torch.inference_mode():
        wanted = model.family.render(model.networks, noise, labels, options)
        found = model.family.render(model.networks, {**noise, "z": noise["z"] * 0.5}, labels, RenderOptions())
    return torch.allclose(wanted, found, atol=1e-5)


def find_runtime(given: Path | None) -> Path:
    """The folder with onnxruntime-web's files."""
    for place in [given] if given is not None else list(_places()):
        for folder in (place, place / "dist"):
            if all((folder / name).is_file() for name in RUNTIME):
                return folder
    raise UserError("--runtime", None if given is None else str(given), f"a folder with {', '.join(RUNTIME)}",
                    f"npm install {PACKAGE} here, or npm pack {PACKAGE} and name its dist folder")  # fmt: skip


def _places() -> Iterator[Path]:
    if os.environ.get(VARIABLE):
        yield Path(os.environ[VARIABLE])
    for folder in (Path.cwd(), *Path.cwd().parents):
        yield folder / "node_modules" / PACKAGE


def _version(place: Path) -> str:
    for folder in (place, place.parent):
        try:
            return str(json.loads((folder / "package.json").read_text(encoding="utf-8"))["version"])
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return "(version unknown)"


def _not_foreign(folder: Path) -> None:
    if folder.exists() and (not folder.is_dir() or (any(folder.iterdir()) and not (folder / "check.json").exists())):
        raise UserError("--out", str(folder), "a new or empty folder, or one written by this", "choose another name")
