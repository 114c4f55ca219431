"""The frames that follow: a model's predictions for given clips, the same to the bit in any batch and order."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from zeuxis.checkpoint import Model
from zeuxis.data import Split
from zeuxis.errors import UserError
from zeuxis.families.base import RenderOptions
from zeuxis.film import save_gif, save_video, strips
from zeuxis.images import SHEET_MARK, Pixels, picture_of, save_png, to_float, to_pixels
from zeuxis.metrics.frames import mean_squared_error
from zeuxis.sampling import Sampler, synthetic_mark

SHEET_CLIPS = 4
SCORED_CLIPS = 200
SHOWN_BEFORE, MOST_STRIPS = 5, 16  # given frames, and futures, on a sheet of predictions


class Predictor:
    """Continues clips in padded chunks of one fixed size. Clip k with seed s has one future."""

    def __init__(self, model: Model, device: str | torch.device = "cpu") -> None:
        if "predict" not in model.family.capabilities:
            raise UserError("MODEL", model.name, "a model that can predict", "`zeuxis info MODEL` says what it can")
        self.model, self.sampler = model, Sampler(model, device)

    @torch.inference_mode()
    def __call__(
        self, frames: Pixels, count: int, seeds: Iterable[int], labels: NDArray[np.int64] | None = None,
        options: RenderOptions | None = None,
    ) -> Pixels:  # fmt: skip
        """The next `count` frames uint8 `[N, count, C, H, W]` after `frames` `[N, t, C, H, W]`, one seed a clip."""
        seeds, chunk, parts = list(seeds), self.sampler.chunk, []
        if len(seeds) != len(frames):
            raise ValueError(f"{len(seeds)} seeds for {len(frames)} clips")
        for start in range(0, len(frames), chunk):
            own = np.arange(start, min(start + chunk, len(frames)))
            padded = np.concatenate([own, np.repeat(own[-1:], chunk - len(own))])
            noise = self.sampler.noise([seeds[at] for at in padded])
            device = self.sampler.device
            images = self.model.family.predict(
                self.sampler.networks, to_float(torch.from_numpy(frames[padded]).to(device)), count,
                None if labels is None else torch.from_numpy(labels[padded]).to(device),
                {key: value.to(device) for key, value in noise.items()}, options or RenderOptions(),
            )  # fmt: skip
            parts.append(to_pixels(images)[: len(own)].cpu().numpy())
        return np.concatenate(parts)


def held_out(split: Split, model: Model, count: int) -> NDArray[np.int64]:
    """Up to `count` positions spread evenly over the windows of a split (with a class, for a model that needs one)."""
    known = np.flatnonzero(split.labels >= 0) if model.classes else np.arange(len(split))
    return known[np.linspace(0, len(known) - 1, min(count, len(known))).astype(np.int64)] if len(known) else known


def predicted_windows(
    predictor: Predictor, split: Split, positions: NDArray[np.int64], options: RenderOptions | None = None,
    seed: int = 0,
) -> tuple[Pixels, Pixels]:  # fmt: skip
    """(true, predicted) frames after the context of the windows at `positions`, each uint8 `[n, T - t, C, H, W]`."""
    model = predictor.model
    clips, context = split.take(positions), model.family.context
    labels = split.labels[positions] if model.classes else None
    seeds = [seed] * len(positions)
    return clips[:, context:], predictor(clips[:, :context], clips.shape[1] - context, seeds, labels, options)


def prediction_score(model: Model, split: Split, device: str | torch.device = "cpu") -> tuple[str, float] | None:
    """The in-training score that chooses the model, lower is better: squared error of predictions for validation clips
    at temperature 0 (`metrics.frames`); None where there are none."""
    positions = held_out(split, model, SCORED_CLIPS)
    if not len(positions):
        return None
    options = RenderOptions(temperature=0.0)
    true, predicted = predicted_windows(Predictor(model, device), split, positions, options)
    return "mse_val", mean_squared_error(unit(predicted), unit(true))


def unit(pixels: Pixels) -> NDArray[np.float64]:
    """uint8 `[..., C, H, W]` -> float `[0, 1]`, colour premultiplied by alpha, as errors are measured."""
    return to_float(torch.from_numpy(pixels), torch.float64).add(1).div(2).numpy()


def prediction_sheet(model: Model, split: Split, device: str | torch.device = "cpu") -> Image.Image:
    """Film strips in pairs: a true clip, and below it the frames that were given followed by the predicted ones."""
    positions = held_out(split, model, SHEET_CLIPS)
    _, predicted = predicted_windows(Predictor(model, device), split, positions)
    clips = split.take(positions)
    made = np.concatenate([clips[:, : model.family.context], predicted], axis=1)
    return strips(np.stack([clips, made], axis=1).reshape(-1, *clips.shape[1:]))


def write_clips(
    chunks: Iterable[Pixels], seeds: Iterable[int], model: Model, out: Path, *, mark: bool = True, each: bool = True,
    sheet_most: int = 16,
) -> list[Path]:  # fmt: skip
    """Of clips uint8 `[n, T, C, H, W]`: `seed000042/0001.png`, ... and `seed000042.gif` of each (with `each`), and
    `grid.png` with the first `sheet_most` as film strips; returns what to open."""
    shown: list[Pixels] = []
    stream = iter(seeds)
    for chunk in chunks:
        shown.append(chunk[: max(0, sheet_most - sum(len(part) for part in shown))])
        for clip, seed in zip(chunk, islice(stream, len(chunk)), strict=True) if each else ():
            write_clip(clip, out / f"seed{seed:06d}", synthetic_mark(model, seed) if mark else None)
    note = {SHEET_MARK: "Zeuxis"}
    save_png(strips(np.concatenate(shown)), out / "grid.png", note | synthetic_mark(model) if mark else note)
    return [out, out / "grid.png"] if each else [out / "grid.png"]


def write_clip(clip: Pixels, folder: Path, mark: dict[str, str] | None) -> None:
    """uint8 `[T, C, H, W]` as numbered PNGs in `folder` and as a GIF beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, frame in enumerate(clip.transpose(0, 2, 3, 1), 1):
        save_png(picture_of(frame), folder / f"{number:04d}.png", mark)
    save_gif(clip, folder.with_name(folder.name + ".gif"), mark)


def write_futures(
    predictor: Predictor, clip: Pixels, count: int, seeds: list[int], label: int | None, options: RenderOptions,
    out: Path, *, mark: bool = True, video: bool = False,
) -> bool:  # fmt: skip
    """The next `count` frames after `clip` uint8 `[t, C, H, W]`, by seed: numbered PNGs, a GIF (with `video` an MP4) of
    each, and `grid.png`, whose film strips begin with the last given frames. Whether all seeds were equal."""
    labels = None if label is None else np.full(len(seeds), label)
    model = predictor.model
    futures = predictor(np.repeat(clip[None], len(seeds), axis=0), count, seeds, labels, options)
    for future, seed in zip(futures, seeds, strict=True):
        note = synthetic_mark(model, seed) if mark else None
        write_clip(future, out / f"seed{seed:06d}", note)
        if video:
            save_video(future, out / f"seed{seed:06d}.mp4", note)
    before = np.repeat(clip[None, -SHOWN_BEFORE:], min(len(seeds), MOST_STRIPS), axis=0)
    sheet = strips(np.concatenate([before, futures[:MOST_STRIPS]], axis=1))
    note = {SHEET_MARK: "Zeuxis"}
    save_png(sheet, out / "grid.png", note | synthetic_mark(model, composite=True) if mark else note)
    return len(seeds) > 1 and bool((futures == futures[:1]).all())
