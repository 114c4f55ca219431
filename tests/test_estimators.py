"""The Python face: scikit-learn's habits, the same pictures as everywhere else, and mistakes in one line."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

import zeuxis as zx
from zeuxis.errors import UserError

Make = Callable[..., np.ndarray]
QUICK = {"precision": "float32", "settings": {"training.batch": 8}}


def gan(**options: Any) -> zx.GAN:
    return zx.GAN("mlp/tiny", **{**QUICK, **options})


def vae(**options: Any) -> zx.VAE:
    return zx.VAE("mlp/tiny", **{**QUICK, **options})


@pytest.fixture(scope="module")
def fitted_vae() -> zx.VAE:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (64, 8, 8, 1), dtype=np.uint8)
    return vae().fit(images, epochs=3)  # type: ignore[return-value]


def test_fit_and_sample(pictures: Make) -> None:
    model = gan().fit(pictures(24, channels=3), epochs=4, batch_size=4)
    assert model.images_seen_ == 96, "epochs count over all given pictures"
    made = model.sample(5, seed=7)
    assert (made.dtype, made.shape) == (np.uint8, (5, 8, 8, 3))
    assert np.array_equal(made, model.sample(5, seed=7))
    assert np.array_equal(made[2:], model.sample(3, seed=9)), "picture k depends on its seed alone"
    assert not np.array_equal(made, model.sample(5, seed=8))
    assert "images seen" in repr(model)


def test_grey_pictures_need_no_channel_axis(pictures: Make) -> None:
    model = vae().fit(pictures(24)[..., 0], epochs=1)
    assert model.sample(2).shape == (2, 8, 8, 1)
    assert np.isfinite(model.score(pictures(6)[..., 0]))


def test_the_same_fit_gives_the_same_model(pictures: Make) -> None:
    one, two, other = (gan(seed=seed).fit(pictures(), epochs=2).sample(4) for seed in (0, 0, 1))
    assert np.array_equal(one, two) and not np.array_equal(one, other)


def test_labels_and_classes(pictures: Make) -> None:
    labels = np.array(["cat", "dog", "owl"]).repeat(8)
    model = gan(conditional=True).fit(pictures(24), labels, epochs=2)
    assert model.model.classes == ("cat", "dog", "owl")
    assert np.array_equal(model.sample(4, label="owl"), model.sample(4, label="owl"))
    assert not np.array_equal(model.sample(4, label="owl"), model.sample(4, label="cat"))
    with pytest.raises(UserError, match=r"--class.*'cow'.*cat, dog, owl"):
        model.sample(4, label="cow")


def test_a_folder_and_a_dataset(tmp_path: Path, pictures: Make) -> None:
    for index, picture in enumerate(pictures(30, channels=3)):
        Image.fromarray(picture).save(tmp_path / f"{index}.png")
    model = gan().fit(tmp_path, epochs=1)
    assert model.sample(1).shape == (1, 8, 8, 3)
    again = gan().fit(zx.open_dataset(tmp_path), epochs=1)
    assert np.array_equal(model.sample(3), again.sample(3))
    resized = gan(resolution=(12, 16), channels=1).fit(tmp_path, epochs=1)
    assert resized.sample(1).shape == (1, 12, 16, 1)


def test_arrays_are_brought_to_what_was_asked(pictures: Make) -> None:
    model = vae(resolution=(12, 16), channels=4).fit(pictures(24), epochs=1)
    assert model.sample(2).shape == (2, 12, 16, 4)
    assert (vae(channels=3).fit(pictures(24), epochs=1).sample(2)).shape == (2, 8, 8, 3)


def test_a_later_fit_goes_on_in_its_run_folder(tmp_path: Path, pictures: Make) -> None:
    model = gan().fit(pictures(), epochs=2, out=tmp_path / "runs")
    (run,) = (tmp_path / "runs").iterdir()
    assert (run / "finished.json").exists()
    assert np.array_equal(zx.load(run).sample(3), model.sample(3))


def test_scikit_learn_habits(pictures: Make) -> None:
    model = gan(conditional=True, seed=3, settings={"network.hidden": 8})
    params = model.get_params()
    assert params["network"] == "mlp/tiny" and params["seed"] == 3 and params["conditional"] is True
    assert set(params) == {"network", "conditional", "resolution", "channels", "wrap", "mirror", "device", "precision",
                           "seed", "settings"}  # fmt: skip
    copy = clone(model)
    assert copy is not model and copy.get_params() == params and not hasattr(copy, "model_")
    assert copy.set_params(seed=4, conditional=False) is copy and copy.seed == 4 and model.seed == 3
    with pytest.raises(ValueError, match="depth"):
        copy.set_params(depth=3)
    fitted = copy.fit(pictures(), epochs=1)
    assert fitted is copy and not hasattr(clone(fitted), "model_")
    assert fitted.model.family.settings["network"]["hidden"] == 8


def test_the_likelihood_of_a_vae(fitted_vae: zx.VAE) -> None:
    rng = np.random.default_rng(1)
    images = rng.integers(0, 256, (300, 8, 8, 1), dtype=np.uint8)
    scores = fitted_vae.score_samples(images)
    assert scores.dtype == np.float64 and scores.shape == (300,) and np.isfinite(scores).all()
    assert fitted_vae.score(images) == pytest.approx(scores.mean())
    assert np.array_equal(scores, fitted_vae.score_samples(images)), "the same pictures get the same bound"
    loose, tight = (fitted_vae.score_samples(images, k=k).mean() for k in (1, 64))
    assert tight > loose, "more samples tighten the bound"
    codes = fitted_vae.encode(images)
    assert codes.dtype == np.float32 and codes.shape == (300, 4) and np.isfinite(codes).all()
    assert not hasattr(gan(), "score")


def test_pixels_are_scored_and_completed(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    images = rng.integers(0, 256, (16, 8, 8, 1), dtype=np.uint8)
    model = zx.Autoregressive("pixelcnn/tiny", **QUICK).fit(images, epochs=1)
    again = zx.load(model.save(tmp_path / "pixels"))
    assert isinstance(again, zx.Autoregressive)
    scores = again.score_samples(images, k=1)
    assert np.array_equal(scores, again.score_samples(images, k=3)), "exact: nothing is drawn"
    assert (-64 * np.log(256) * 1.5 < scores).all() and (scores < 0).all()
    known = np.zeros((8, 8), bool)
    known[:4] = True
    whole = again.complete(images[:3], known, seed=5)
    assert np.array_equal(whole[:, :4], images[:3, :4]) and not np.array_equal(whole[:, 4:], images[:3, 4:])
    assert np.array_equal(whole, again.complete(images[:3], known, seed=5))
    with pytest.raises(UserError, match=r"encode.*complete, log_likelihood"):
        again.encode(images)
    with pytest.raises(UserError, match=r"--top-k.*--temperature.*network pixelcnn .* has no top-k"):
        again.sample(1, top_k=3)


def test_options_of_sampling(fitted_vae: zx.VAE) -> None:
    assert np.array_equal(*fitted_vae.sample(2, temperature=0.0)), "no noise, one picture"
    with pytest.raises(UserError, match=r"--truncation.*--temperature.*family vae has no truncation"):
        fitted_vae.sample(2, truncation=0.5)


def test_save_and_load(tmp_path: Path, fitted_vae: zx.VAE, pictures: Make) -> None:
    place = fitted_vae.save(tmp_path / "my-model")
    assert {path.name for path in place.iterdir()} == {"config.json", "model.safetensors", "README.md", "samples.png"}
    again = zx.load(place)
    assert isinstance(again, zx.VAE) and np.array_equal(again.sample(9, seed=3), fitted_vae.sample(9, seed=3))
    assert np.array_equal(again.encode(pictures(3)), fitted_vae.encode(pictures(3)))
    assert "VAE" in repr(again)
    again.save(place)  # a model folder may be replaced
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("dear")
    (tmp_path / "file").touch()
    for name in ("mine", "file"):
        with pytest.raises(UserError, match=rf"folder.*{name}.*an empty, new or model folder"):
            again.save(tmp_path / name)
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "dear"
    gan_again = zx.load(gan().fit(pictures(), epochs=1).save(tmp_path / "gan"))
    assert isinstance(gan_again, zx.GAN)


def test_a_notebook_shows_a_grid(fitted_vae: zx.VAE) -> None:
    made = fitted_vae.sample(6)
    png = made._repr_png_()
    with Image.open(io.BytesIO(png)) as sheet:
        assert sheet.format == "PNG" and sheet.size == (3 * 66 + 2, 2 * 66 + 2)
    assert "data:image/png;base64," in made._repr_html_()
    assert made[0]._repr_png_() is None, "one picture's array is no batch"
    assert (made.astype(float) / 255)._repr_html_() is None
    assert isinstance(np.asarray(made) + 0, np.ndarray)


def test_before_fit(tmp_path: Path, pictures: Make) -> None:
    for use in (lambda m: m.sample(2), lambda m: m.save(tmp_path / "m"), lambda m: m.score(pictures(2)),
                lambda m: m.encode(pictures(2)), lambda m: m.model):  # fmt: skip
        with pytest.raises(NotFittedError, match=r"VAE is not fitted: call fit\(images\) first"):
            use(vae())


MISTAKES: list[tuple[str, Callable[[Make], Any], str]] = [
    ("float pictures", lambda make: gan().fit(make() / 255.0), r"uint8"),
    ("two axes", lambda make: gan().fit(make()[0, :, :, 0]), r"uint8"),
    ("channels first", lambda make: gan().fit(make(channels=3).transpose(0, 3, 1, 2)), r"transpose"),
    ("too few labels", lambda make: gan(conditional=True).fit(make(24), [0, 1]), r"labels"),
    ("labels and a folder", lambda make: gan().fit("digits", [0, 1]), r"labels.*sub-folders"),
    ("conditional without labels", lambda make: gan(conditional=True).fit(make()), r"--conditional.*classes"),
    ("no epochs", lambda make: gan().fit(make(), epochs=0), r"epochs: got 0, allowed: more than 0"),
    ("nan epochs", lambda make: gan().fit(make(), epochs=float("nan")), r"epochs: got nan"),
    ("no batch", lambda make: gan().fit(make(), epochs=1, batch_size=0), r"batch_size: got 0, allowed: 1 or more"),
    ("no time", lambda make: gan().fit(make(), budget=0), r"budget: got 0, allowed: more than 0"),
    ("no such network", lambda make: zx.GAN("unet").fit(make(), epochs=1), r"gan/unet"),
    ("no such setting", lambda make: gan(settings={"network.depth": 3}).fit(make(), epochs=1), r"'network.depth'"),
    ("resolution", lambda make: gan(resolution=(9, 9)).fit(make()), r"resolution: got \(9, 9\).*multiples of 4"),
    ("channels", lambda make: gan(channels=2).fit(make(), epochs=1), r"GAN channels"),
    ("precision", lambda make: gan(precision="half").fit(make(), epochs=1), r"GAN precision.*'half'"),
    ("seed", lambda make: gan(seed=-1).fit(make(), epochs=1), r"GAN seed: got -1"),
    ("nowhere", lambda make: zx.load("nowhere"), r"MODEL.*'nowhere'"),
]  # fmt: skip


@pytest.mark.parametrize(("use", "words"), [entry[1:] for entry in MISTAKES], ids=[entry[0] for entry in MISTAKES])
def test_mistakes_are_user_errors(use: Callable[[Make], Any], words: str, pictures: Make) -> None:
    with pytest.raises(UserError, match=words) as error:
        use(pictures)
    assert "\n" not in str(error.value)


def test_pictures_of_another_size_are_refused(fitted_vae: zx.VAE, pictures: Make) -> None:
    wrong: list[tuple[Any, str]] = [
        (pictures(2, height=12), r"uint8 \[2, 12, 8, 1\].*uint8 \[N, 8, 8, 1\]"),
        (pictures(2, channels=3), r"\[N, 8, 8, 1\]"),
        (pictures(2) / 255.0, r"float64"),
        (pictures(2)[0], r"uint8 \[1, 8, 8|uint8 \[8, 8"),
        (np.uint8(3), r"\[N, 8, 8, 1\]"),
    ]
    for images, words in wrong:
        for use in (fitted_vae.encode, fitted_vae.score, fitted_vae.score_samples):
            with pytest.raises(UserError, match=words):
                use(images)
    with pytest.raises(UserError, match=r"labels.*no classes"):
        fitted_vae.encode(pictures(2), [0, 1])
    for count in (0, -2):
        with pytest.raises(UserError, match=rf"n: got {count}, allowed: 1 or more"):
            fitted_vae.sample(count)


def test_class_indices_are_checked(pictures: Make) -> None:
    model = vae(conditional=True).fit(pictures(24), np.arange(24) % 2, epochs=1)
    assert model.encode(pictures(2), [0, 1]).shape == (2, 4)
    for labels in ([0, 2], [-1, 0], [0], [0.5, 1.0], None):
        with pytest.raises(UserError, match=r"labels.*class indices"):
            model.encode(pictures(2), labels)
