"""What a command line names: runs, model folders and `NAME=PICTURES`, and the data that they share."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zeuxis.checkpoint import find_model, load_model
from zeuxis.config import DataOptions, ImageSpec, fingerprint, parse
from zeuxis.data import Dataset, is_data, open_dataset
from zeuxis.errors import DataError, UserError

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Subject:
    """One thing to compare: a `run` (with its `config`), a model folder alone, or foreign `pictures` with a name."""

    path: Path
    kind: str  # run, model, pictures
    name: str = ""
    config: Any = None

    @property
    def asked(self) -> dict[str, Any]:
        """What the run was asked for: `options` and the `data` key; empty where there is no run."""
        asked = self.config.get("asked") if isinstance(self.config, dict) else None
        return asked if isinstance(asked, dict) else {}

    @property
    def resolved(self) -> dict[str, Any]:
        """What the run decided when it began; empty where there is no run."""
        resolved = self.config.get("resolved") if isinstance(self.config, dict) else None
        return resolved if isinstance(resolved, dict) else {}

    @property
    def data_options(self) -> DataOptions | None:
        """How the run read its data; None where nothing says so."""
        options = self.asked.get("options")
        values = options.get("data") if isinstance(options, dict) else None
        return parse(DataOptions, values, str(self.path)) if isinstance(values, dict) else None


def parse_subject(text: str) -> Subject:
    """A run or model folder, or `NAME=FOLDER_OR_NPZ` (any form of DATA); anything else is a `UserError`."""
    path = Path(text)
    if path.is_dir():
        run = path.parent if path.name == "model" and (path.parent / "log.txt").is_file() else path
        find_model(path)
        if (run / "log.txt").is_file():
            return Subject(run, "run", config=_config(run))
        return Subject(path, "model")
    # A name may have equals signs in it, and so may a path: the first one with pictures behind it counts.
    signs = [place for place, sign in enumerate(text) if sign == "=" and text[:place].strip() and text[place + 1 :]]
    for place in signs:
        if is_data(text[place + 1 :]):
            return Subject(Path(text[place + 1 :]), "pictures", text[:place].strip())
    if signs:
        name, _, missed = text.partition("=")
        raise UserError(name, missed, "a folder, zip, npz or idx file of pictures", "check the spelling of the path")
    allowed = "a run folder, a model folder, or NAME=PICTURES (a folder or .npz of any other tool)"
    raise UserError("RUN", text, allowed, "to train models first: zeuxis compare DATA --models gan,vae --budget 10m")


def _config(run: Path) -> Any:
    try:
        return json.loads((run / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}


def shared_data(subjects: Sequence[Subject], data: str | None, progress: Progress | None = None) -> Dataset:
    """The data to judge against, read as the first run read its own: `data`, else where a run's record says it was.

    Data from a record must still be the same, by fingerprint; a `UserError` asks for `--data` where none can be had.
    """
    runs = [subject for subject in subjects if subject.kind == "run"]
    if data is not None:
        at_size = _options_of_models(subjects)
        recorded = next((run.data_options for run in runs if run.data_options), at_size)
        dataset = open_dataset(data, recorded, progress=progress)
        fits = at_size.resolution == "auto" or (at_size.channels, *at_size.resolution) == dataset.spec.shape
        return dataset if fits else open_dataset(data, at_size, progress=progress)
    reasons = []
    for run in runs:
        source, options = run.resolved.get("source"), run.data_options
        if not isinstance(source, str) or not source or options is None:
            reasons.append(f"{run.path.name} does not record where its data are")
            continue
        try:
            dataset = open_dataset(source, options, progress=progress)
        except DataError as error:
            reasons.append(f"{run.path.name}: {error}")
            continue
        if dataset.key == run.asked.get("data"):
            return dataset
        reasons.append(f"the data of {run.path.name} have changed since")
    allowed = "the real pictures: any form of DATA"
    raise UserError("--data", None, allowed, "; ".join(reasons) or "no run is there whose record could say which")


def _options_of_models(subjects: Sequence[Subject]) -> DataOptions:
    """At the size of the first model; as the data are where only pictures are compared."""
    for subject in subjects:
        if subject.kind != "pictures":
            return options_for(load_model(subject.path).spec)
    return DataOptions()


def options_for(spec: ImageSpec, **more: Any) -> DataOptions:
    """Options that read pictures at the size and channels of `spec`."""
    return DataOptions(resolution=(spec.height, spec.width), channels=spec.channels, **more)


def finished_run(out: Path, asked: dict[str, Any]) -> Path | None:
    """The newest finished run in `out` of exactly these settings and data, so that it is not trained twice."""
    wanted = fingerprint(asked)
    for path in sorted(out.glob("[0-9]*-*"), reverse=True) if out.is_dir() else []:
        config = _config(path)
        same = isinstance(config, dict) and "asked" in config and fingerprint(config["asked"]) == wanted
        if same and (path / "finished.json").is_file() and (path / "model" / "config.json").is_file():
            return path
    return None
