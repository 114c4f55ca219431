"""The Python face: scikit-learn's habits over the same loop, folders and pictures as the command line."""

from __future__ import annotations

import base64
import io
import tempfile
import time
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError

from zeuxis.checkpoint import Model, load_model
from zeuxis.config import MAX_SIDE, DataOptions, TrainOptions, parse
from zeuxis.data import Dataset, open_dataset
from zeuxis.errors import UserError
from zeuxis.images import Pixels, grid, sheet_scale, to_float, to_pixels, to_user
from zeuxis.randomness import generator_for
from zeuxis.sampling import Sampler, class_index, render_options
from zeuxis.snapshot import sample_sheet, write_model
from zeuxis.training import start


class Pictures(np.ndarray):
    """uint8 `[N, H, W, C]` that a notebook shows as a grid; otherwise an ordinary array."""

    def _repr_png_(self) -> bytes | None:
        if self.ndim != 4 or self.dtype != np.uint8 or not len(self):
            return None
        buffer = io.BytesIO()
        shown = np.asarray(self)[:256]
        grid(shown, scale=sheet_scale(*shown.shape[1:3])).save(buffer, format="PNG")
        return buffer.getvalue()

    def _repr_html_(self) -> str | None:
        png = self._repr_png_()
        return (
            None
            if png is None
            else f'<img alt="pictures" src="data:image/png;base64,{base64.b64encode(png).decode()}">'
        )


class Generator(BaseEstimator):
    """What `GAN`, `VAE` and `Autoregressive` share; not meant to be made itself.

    Args:
        network: `NETWORK[/PRESET]` of the family, or None for its default.
        conditional: Whether to learn classes (labels in `fit`, or the data's own).
        resolution: None for the data's own or (height, width).
        channels: None for the data's own, or 1, 3, 4.
        wrap: "", "x", "y" or "xy": edges that continue into each other.
        mirror: Whether to flip pictures left to right at random.
        device, precision, seed: As on the command line.
        settings: Dotted settings over the preset's, such as {"network.width": 64}.
    """

    family: ClassVar[str] = ""

    def __init__(
        self, network: str | None = None, *, conditional: bool = False, resolution: tuple[int, int] | None = None,
        channels: int | None = None, wrap: str = "", mirror: bool = False, device: str = "auto",
        precision: str = "auto", seed: int = 0, settings: dict[str, Any] | None = None,
    ) -> None:  # fmt: skip
        self.network, self.conditional, self.resolution, self.channels = network, conditional, resolution, channels
        self.wrap, self.mirror, self.device, self.precision = wrap, mirror, device, precision
        self.seed, self.settings = seed, settings

    # -- training --------------------------------------------------------------------------------------------------
    def fit(
        self, images: ArrayLike | str | Path | Dataset, labels: ArrayLike | None = None, *, epochs: float | None = None,
        batch_size: int | None = None, budget: float | None = None, out: str | Path | None = None,
    ) -> Generator:  # fmt: skip
        """Trains on arrays uint8 `[N, H, W]` or `[N, H, W, C]`, a folder or other DATA, or a dataset.

        Length: `epochs` over the training pictures, or `budget` seconds, or the preset's. With `out` the run folder is
        kept there and a later `fit` of the same goes on in it; else it is temporary. All given pictures are trained on
        when they are an array (hold some out yourself, as scikit-learn does).
        """
        for name, length in (("epochs", epochs), ("budget", budget)):
            if length is not None and not 0 < length < 1e9:
                raise UserError(name, length, "more than 0", f"leave {name} out for the preset's own length")
        if batch_size is not None and batch_size < 1:
            raise UserError("batch_size", batch_size, "1 or more", "leave it out for the preset's own")
        data = self._data(images, labels)
        kimg = None if epochs is None else max(1e-3, epochs * len(data.train) / 1000)
        options = parse(
            TrainOptions,
            {
                "model": f"{self.family}/{self.network}" if self.network else self.family,
                "kimg": kimg, "budget": budget,
                "batch": batch_size, "conditional": self.conditional, "mirror": self.mirror, "device": self.device,
                "precision": self.precision, "seed": self.seed, "snapshots": 1, "settings": self.settings or {},
                "data": self._data_options().to_json(),
            },
            type(self).__name__,
        )  # fmt: skip
        started = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="zeuxis-") as temporary:
            training = start(options, data, Path(out or temporary), started=started)
            outcome = training.run()
            if outcome.status == "interrupted":
                kept = f": the same fit goes on in {outcome.folder}" if out else ""
                raise KeyboardInterrupt(f"fit was interrupted at {outcome.images_seen} images{kept}")
            self.model_ = load_model(outcome.folder / "model")
        self.images_seen_ = outcome.images_seen
        return self

    def _data_options(self) -> DataOptions:
        sides = (4, 4) if self.resolution is None else tuple(self.resolution)
        if len(sides) != 2 or any(side % 4 or not 4 <= side <= MAX_SIDE for side in sides):
            allowed = f"None or (height, width), multiples of 4 up to {MAX_SIDE}"
            raise UserError("resolution", self.resolution, allowed, "try resolution=None")
        values = {"resolution": self.resolution or "auto", "channels": self.channels or "auto", "wrap": self.wrap}
        return parse(DataOptions, values, type(self).__name__)

    def _data(self, images: Any, labels: ArrayLike | None) -> Dataset:
        options = self._data_options()
        if isinstance(images, (str, Path, Dataset)):
            if labels is not None:
                raise UserError(
                    "labels", "an array", "labels beside an array of pictures", "put classes into sub-folders"
                )
            return open_dataset(images, options)
        array = np.asarray(images)
        options = options.model_copy(update={"test_fraction": 0.0, "val_fraction": 0.0})
        return open_dataset(array, options, labels=None if labels is None else np.asarray(labels))

    # -- using -----------------------------------------------------------------------------------------------------
    @property
    def model(self) -> Model:
        """The trained model; `NotFittedError` before `fit`."""
        if not hasattr(self, "model_"):
            raise NotFittedError(
                f"this {type(self).__name__} is not fitted: call fit(images) first, or zeuxis.load(folder)"
            )
        model: Model = self.model_
        return model

    def sample(
        self, n: int = 16, seed: int = 0, *, label: str | None = None, truncation: float | None = None,
        temperature: float | None = None, top_k: int | None = None, top_p: float | None = None,
        guidance: float | None = None,
    ) -> Pixels:  # fmt: skip
        """`n` pictures uint8 `[n, H, W, C]` of the seeds `seed`, `seed` + 1, ...; `label` is a class's name."""
        if n < 1:
            raise UserError("n", n, "1 or more", "ask for at least one picture")
        sampler = Sampler(self.model)
        options = render_options(
            self.model, truncation=truncation, temperature=temperature, top_k=top_k, top_p=top_p, guidance=guidance
        )
        index = class_index(label, self.model.drawn_classes)
        chunks = list(sampler(range(seed, seed + n), label=index, options=options))
        return np.ascontiguousarray(np.concatenate(chunks).transpose(0, 2, 3, 1)).view(Pictures)

    def save(self, folder: str | Path) -> Path:
        """Writes the model folder (weights, config, card, samples), replacing an older one there."""
        place = Path(folder)
        foreign = place.exists() and not (place / "config.json").exists()
        if foreign and (not place.is_dir() or any(place.iterdir())):
            raise UserError("folder", str(place), "an empty, new or model folder", "choose another name")
        write_model(self.model, sample_sheet(Sampler(self.model)), place)
        return place

    def _inputs(self, images: ArrayLike, labels: ArrayLike | None) -> tuple[torch.Tensor, torch.Tensor | None]:
        spec, array = self.model.spec, np.asarray(images)
        array = array[..., None] if array.ndim == 3 and spec.channels == 1 else array
        wanted = (spec.height, spec.width, spec.channels)
        if array.dtype != np.uint8 or array.ndim != 4 or array.shape[1:] != wanted:
            raise UserError("images", f"{array.dtype} {list(array.shape)}", f"uint8 [N, {', '.join(map(str, wanted))}]",
                            "bring them to the model's size first")  # fmt: skip
        if bool(self.model.classes) != (labels is not None):
            needs = "class indices [N]" if self.model.classes else "None: the model has no classes"
            raise UserError("labels", None if labels is None else "an array", needs, "see model.classes")
        tensor = to_float(torch.from_numpy(np.ascontiguousarray(array.transpose(0, 3, 1, 2))))
        return tensor, None if labels is None else self._class_indices(np.asarray(labels), len(array))

    def _class_indices(self, labels: NDArray[Any], count: int) -> torch.Tensor:
        """int64 `[count]`, each the index of a class of the model."""
        classes = len(self.model.classes)
        whole = labels.shape == (count,) and np.issubdtype(labels.dtype, np.integer)
        if not whole or not ((labels >= 0) & (labels < classes)).all():
            allowed = f"{count} class indices from 0 to {classes - 1}"
            raise UserError("labels", f"{labels.dtype} {list(labels.shape)}", allowed, "see model.classes")
        return torch.from_numpy(labels.astype(np.int64))

    def __repr__(self, N_CHAR_MAX: int = 700) -> str:
        state = f" fitted: {self.model_.spec}, {self.images_seen_} images seen" if hasattr(self, "images_seen_") else ""
        return super().__repr__(N_CHAR_MAX) + state


class GAN(Generator):
    """Generative adversarial network: `zx.GAN().fit(images, epochs=20).sample(16, seed=0)`."""

    family: ClassVar[str] = "gan"


class Scorer(Generator):
    """What `VAE` and `Autoregressive` share beyond that: codes and likelihoods, where the network has them."""

    def _needs(self, capability: str) -> None:
        if capability not in self.model.family.capabilities:
            can = ", ".join(sorted(self.model.family.capabilities)) or "sample only"
            raise UserError(capability, self.model.name, f"a model that can: this one can {can}", "see zeuxis info")

    @torch.inference_mode()
    def encode(self, images: ArrayLike, labels: ArrayLike | None = None) -> NDArray[np.float32]:
        """Latent codes of pictures uint8 `[N, H, W, C]`."""
        self._needs("encode")
        tensor, classes = self._inputs(images, labels)
        codes: NDArray[np.float32] = self.model.family.encode(self.model.networks, tensor, classes).numpy()
        return codes

    @torch.inference_mode()
    def score_samples(self, images: ArrayLike, labels: ArrayLike | None = None, *, k: int = 16) -> NDArray[np.float64]:
        """Log likelihood of each picture in nats, float64 `[N]`: of a VAE an importance-weighted lower bound (K = `k`),
        of networks over pixels exact."""
        self._needs("log_likelihood")
        tensor, classes = self._inputs(images, labels)
        generator = generator_for("score", self.seed)
        parts = [
            self.model.family.log_likelihood(
                self.model.networks,
                tensor[at : at + 256],
                None if classes is None else classes[at : at + 256],
                generator,
                k,
            )
            for at in range(0, len(tensor), 256)
        ]
        return torch.cat(parts).double().numpy()

    def score(self, images: ArrayLike, labels: ArrayLike | None = None) -> float:
        """Mean of `score_samples` in nats per picture: higher is better."""
        return float(self.score_samples(images, labels).mean())


class VAE(Scorer):
    """Variational autoencoder: samples, encodes, reconstructs and scores."""

    family: ClassVar[str] = "vae"


class Autoregressive(Scorer):
    """Pictures as sequences of pixels or tokens: samples, completes, and over pixels scores exactly."""

    family: ClassVar[str] = "autoregressive"

    @torch.inference_mode()
    def complete(
        self, images: ArrayLike, known: ArrayLike, labels: ArrayLike | None = None, *, seed: int = 0
    ) -> Pixels:
        """`images` uint8 `[N, H, W, C]` where `known` (bool `[H, W]` or `[N, H, W]`), drawn elsewhere: picture i by the
        seed `seed` + i. What is drawn knows what comes before it in raster order."""
        self._needs("complete")
        tensor, classes = self._inputs(images, labels)
        mask = np.broadcast_to(np.asarray(known), (len(tensor), *tensor.shape[2:]))
        if mask.dtype != bool:
            raise UserError("known", mask.dtype, "bool [H, W] or [N, H, W]", "True where the picture is given")
        sampler = Sampler(self.model)
        noise = sampler.noise(list(range(seed, seed + len(tensor))))
        whole = self.model.family.complete(
            sampler.networks, tensor, torch.from_numpy(mask.copy())[:, None], classes, noise, render_options(self.model)
        )
        return to_user(to_pixels(whole)).view(Pictures)


def load(folder: str | Path) -> Generator:
    """A trained `GAN`, `VAE` or `Autoregressive` from a model folder or run folder."""
    model = load_model(folder)
    kinds: dict[str, type[Generator]] = {"gan": GAN, "vae": VAE, "autoregressive": Autoregressive}
    estimator = kinds[model.family.name](model.name.split("/", 1)[1], conditional=bool(model.classes))
    estimator.model_ = model
    return estimator
