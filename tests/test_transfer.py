"""`--init`: what of another model's weights a new one takes over, and that it then does what the other did."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from zeuxis.checkpoint import Model, save_model
from zeuxis.config import ImageSpec
from zeuxis.errors import UserError
from zeuxis.families import make_family
from zeuxis.families.base import Family, RenderOptions
from zeuxis.randomness import generator_for
from zeuxis.training import Training
from zeuxis.transfer import Row, Source, read_source, summary, take_over

NAMES = ("a", "b", "c")


def made(
    name: str, side: int, channels: int, classes: tuple[str, ...] = (), seed: int = 0, **settings: Any
) -> tuple[Family, dict[str, nn.Module]]:
    family = make_family(name, ImageSpec(height=side, width=side, channels=channels), len(classes), settings)
    torch.manual_seed(seed)
    return family, family.build()


def source_of(family: Family, networks: dict[str, nn.Module], classes: tuple[str, ...] = ()) -> Source:
    weights = {part: network.state_dict() for part, network in networks.items()}
    return Source("there", weights, family.spec, classes)


def taken(rows: list[Row], part: str, what: str) -> list[str]:
    return [row.name for row in rows if row.part == part and row.taken == what]


def rendered(family: Family, networks: dict[str, nn.Module], labels: torch.Tensor | None = None) -> torch.Tensor:
    noise = family.noise(3, generator_for("z"), "sample")
    with torch.no_grad():
        return family.render(networks, noise, labels, RenderOptions())


@pytest.mark.parametrize("name", ["dcgan/tiny", "gan/mlp/tiny", "vae/conv/tiny", "gan/resnet/tiny"])
def test_the_same_model_is_taken_over_whole(name: str) -> None:
    family, old = made(name, 16, 3, NAMES)
    _, new = made(name, 16, 3, NAMES, seed=1)
    rows = take_over(new, source_of(family, old, NAMES), family.spec, NAMES)
    assert {row.taken for row in rows} == {"loaded"}
    for part in old:
        for key, value in old[part].state_dict().items():
            assert torch.equal(value, new[part].state_dict()[key]), key


@pytest.mark.parametrize("name", ["dcgan/tiny", "gan/mlp/tiny", "gan/resnet/tiny"])
def test_from_grey_to_colour_pictures_stay_what_they_were(name: str) -> None:
    """Made grey in all three channels, and a grey picture is judged as before."""
    grey, old = made(name, 16, 1)
    colour, new = made(name, 16, 3, seed=1)
    rows = take_over(new, source_of(grey, old), colour.spec, ())
    assert not taken(rows, "generator", "fresh") and not taken(rows, "discriminator", "fresh")
    before = rendered(grey, old)
    torch.testing.assert_close(rendered(colour, new), before.expand(-1, 3, -1, -1), atol=1e-5, rtol=1e-4)
    images = torch.rand(4, 1, 16, 16, generator=generator_for("x")) * 2 - 1
    with torch.no_grad():
        torch.testing.assert_close(new["discriminator"](images.expand(-1, 3, -1, -1), None),
                                   old["discriminator"](images, None), atol=1e-5, rtol=1e-3)  # fmt: skip


def test_from_colour_to_transparency_colours_stay_and_alpha_is_not_judged() -> None:
    rgb, old = made("dcgan/tiny", 16, 3)
    rgba, new = made("dcgan/tiny", 16, 4, seed=1)
    take_over(new, source_of(rgb, old), rgba.spec, ())
    made_now = rendered(rgba, new)
    straight = 2 * (made_now[:, :3] + 1) / (made_now[:, 3:] + 1) - 1  # alpha is new, and fresh
    torch.testing.assert_close(straight, rendered(rgb, old), atol=1e-4, rtol=1e-3)
    images = torch.rand(4, 4, 16, 16, generator=generator_for("x")) * 2 - 1
    with torch.no_grad():
        torch.testing.assert_close(new["discriminator"](images, None), old["discriminator"](images[:, :3], None))


def test_from_colour_to_grey_the_mean_colour_is_made() -> None:
    rgb, old = made("gan/mlp/tiny", 8, 3)
    grey, new = made("gan/mlp/tiny", 8, 1, seed=1)
    take_over(new, source_of(rgb, old), grey.spec, ())
    mean = torch.atanh(rendered(rgb, old).clamp(-0.999, 0.999)).mean(1, keepdim=True)
    torch.testing.assert_close(torch.atanh(rendered(grey, new)), mean, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("sides", [(16, 32), (32, 16)])
def test_levels_of_another_size_are_shared(sides: tuple[int, int]) -> None:
    """With one width on all levels, levels go by their distance from the smallest grid."""
    settings = {"network.width": 8, "network.max_width": 8}
    small, old = made("dcgan/tiny", sides[0], 1, **settings)
    large, new = made("dcgan/tiny", sides[1], 1, seed=1, **settings)
    rows = take_over(new, source_of(small, old), large.spec, ())
    both = min(len(old["generator"].ups), len(new["generator"].ups))
    for level in range(both):  # from the smallest grid on in the generator, up to it in the discriminator
        assert torch.equal(new["generator"].ups[level].weight, old["generator"].ups[level].weight)
        assert torch.equal(new["discriminator"].downs[-1 - level].weight, old["discriminator"].downs[-1 - level].weight)
    assert torch.equal(new["generator"].project.weight, old["generator"].project.weight)
    more = sides[1] > sides[0]
    assert bool(taken(rows, "generator", "fresh")) == bool(taken(rows, "discriminator", "fresh")) == more


def test_levels_that_widen_go_where_they_fit() -> None:
    small, old = made("dcgan/small", 16, 1)
    large, new = made("dcgan/small", 32, 1, seed=1)
    take_over(new, source_of(small, old), large.spec, ())
    assert torch.equal(new["generator"].ups[1].weight, old["generator"].ups[0].weight), "64 to 32 channels"
    assert torch.equal(new["discriminator"].downs[0].weight, old["discriminator"].downs[0].weight), "32 to 64 channels"


def test_classes_are_taken_over_by_name() -> None:
    family, old = made("dcgan/tiny", 16, 1, NAMES)
    other, new = made("dcgan/tiny", 16, 1, ("c", "d"), seed=1)
    fresh = new["generator"].embed.weight.detach().clone()
    rows = take_over(new, source_of(family, old, NAMES), other.spec, ("c", "d"))
    assert torch.equal(new["generator"].embed.weight[0], old["generator"].embed.weight[2])
    assert torch.equal(new["generator"].embed.weight[1], fresh[1])
    assert [row.note for row in rows if row.name == "embed.weight"] == ["1 of 2 classes"]
    torch.testing.assert_close(rendered(other, new, torch.zeros(3, dtype=torch.long)),
                               rendered(family, old, torch.full((3,), 2)))  # fmt: skip


def test_a_model_without_classes_can_learn_them() -> None:
    family, old = made("dcgan/tiny", 16, 1)
    other, new = made("dcgan/tiny", 16, 1, NAMES, seed=1)
    rows = take_over(new, source_of(family, old), other.spec, NAMES)
    assert set(taken(rows, "generator", "partly")) == {"project.weight"}
    assert set(taken(rows, "discriminator", "partly")) == {"head.linear.weight"}
    assert torch.equal(new["discriminator"].head.linear.weight[0], old["discriminator"].head.linear.weight[0])


def test_another_network_has_nothing_to_give() -> None:
    family, old = made("gan/mlp/tiny", 16, 1)
    other, new = made("vae/conv/tiny", 16, 1)
    with pytest.raises(UserError, match=r"--init.*something in common"):
        take_over(new, source_of(family, old), other.spec, ())


def test_a_model_folder_gives_the_generator_and_a_run_the_discriminator_too(
    begin: Callable[..., Training], tmp_path: Path
) -> None:
    outcome = begin("old", model="dcgan/tiny").run()
    run, model = (read_source(str(outcome.folder / rest)) for rest in ("", "model"))
    assert set(run.weights) == set(model.weights) == {"generator", "discriminator"}, "a run is found from its model too"
    family, networks = made("dcgan/tiny", 8, 1)
    save_model(Model(family, {"generator": networks["generator"]}, "gan/dcgan/tiny"), tmp_path / "alone")
    assert set(read_source(str(tmp_path / "alone")).weights) == {"generator"}
    with pytest.raises(UserError, match=r"--init.*nowhere"):
        read_source(str(tmp_path / "nowhere"))


def test_a_run_begins_with_the_weights_and_is_found_again(begin: Callable[..., Training], tmp_path: Path) -> None:
    old = begin("old", model="dcgan/tiny").run()
    log: list[str] = []
    options = {"model": "dcgan/tiny", "init": str(old.folder), "kimg": 0.4}
    first = begin("new", log=log, **options)
    source = read_source(str(old.folder))
    for key, value in first.stepper.networks["discriminator"].state_dict().items():
        assert torch.equal(value, source.weights["discriminator"][key]), (key, log)
    average = first.stepper.averaged["generator"].state_dict()
    assert all(torch.equal(value, source.weights["generator"][key]) for key, value in average.items())
    assert any("begun with" in line and "generator 100% loaded" in line for line in log)
    interrupted = first.run(stop=lambda seen: seen >= 200)
    (old.folder / "model" / "model.safetensors").unlink()  # what a run began with is not needed to go on
    second = begin("new", **options).run()
    assert second.folder == interrupted.folder and second.images_seen > interrupted.images_seen
    with pytest.raises(UserError, match="--init"):
        begin("third", **{**options, "init": str(tmp_path / "nothing")})
    assert not list((tmp_path / "third").glob("*")), "a mistake leaves no run behind"


def test_the_summary_counts_values() -> None:
    rows = [Row("g", "a", "loaded", 30), Row("g", "b", "partly", 10), Row("g", "c", "fresh", 60)]
    assert summary(rows) == "g 30% loaded, 10% partly"
    assert np.isclose(sum(row.values for row in rows), 100)
