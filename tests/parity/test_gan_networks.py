"""What the papers say of the GAN's networks, as properties: residual blocks that start as the identity, demodulation,
style mixing, path length, minibatch deviation, and networks that know no edge where pictures wrap."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zeuxis.config import ImageSpec
from zeuxis.errors import UserError
from zeuxis.families import make_family
from zeuxis.families.base import Batch, RenderOptions
from zeuxis.families.gan import NETWORKS
from zeuxis.families.gan.losses import path_lengths
from zeuxis.families.gan.objective import GAN, generator_of
from zeuxis.families.gan.r3gan import Bottleneck, R3ganConfig
from zeuxis.nn.bound import bounded
from zeuxis.nn.resample import binomial, blur, depth_to_space, downsample, space_to_depth, upsample
from zeuxis.nn.residual import ResidualBlock, fixup_gain
from zeuxis.nn.style import EqualConv2d, ModulatedConv2d, minibatch_deviation, mix_levels
from zeuxis.randomness import generator_for
from zeuxis.steps import Stepper

RESIDUAL = ["resnet", "r3gan", "stylegan2"]
BOTH_WRAP = (True, True)


def normal(*shape: int, key: str = "x") -> Tensor:
    return torch.randn(*shape, generator=generator_for(key))


def bound(name: str, spec: ImageSpec, classes: int = 0, **settings: Any) -> GAN:
    family = make_family(f"gan/{name}/tiny", spec, classes, settings)
    assert isinstance(family, GAN)
    return family


def built(family: GAN) -> dict[str, nn.Module]:
    torch.manual_seed(0)
    return family.build()


# -- resampling ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("taps", [3, 4])
def test_resampling_keeps_what_is_constant_and_one_is_the_other_ones_transpose(taps: Any) -> None:
    x, y = normal(2, 3, 6, 10, key="x").double(), normal(2, 3, 12, 20, key="y").double()
    for wrap in product((False, True), repeat=2):
        forth = (upsample(x, wrap, taps) * y).sum()
        torch.testing.assert_close(forth, 4 * (x * downsample(y, wrap, taps)).sum())
    ones = torch.ones(1, 2, 6, 6)
    torch.testing.assert_close(upsample(ones, BOTH_WRAP, taps), torch.ones(1, 2, 12, 12))
    torch.testing.assert_close(downsample(ones, BOTH_WRAP, taps), torch.ones(1, 2, 3, 3))
    assert binomial(ones, taps)[0].sum() == 1


def test_doubling_interpolates_linearly() -> None:
    ramp = torch.arange(5.0).view(1, 1, 1, 5).expand(1, 1, 5, 5)
    inner = upsample(ramp)[0, 0, 4, :9]
    torch.testing.assert_close(inner, torch.arange(9) / 2)


@pytest.mark.parametrize("patch", [1, 2, 4])
def test_patches_become_pixels_and_back(patch: int) -> None:
    x = normal(2, 3, 8, 12)
    deep = space_to_depth(x, patch)
    assert deep.shape == (2, 3 * patch**2, 8 // patch, 12 // patch)
    assert torch.equal(deep[0, :3, 1, 2], x[0, :, patch, 2 * patch]), "a patch's first pixel comes first"
    assert torch.equal(depth_to_space(deep, patch), x)
    inner = depth_to_space(deep, patch)
    assert patch == 1 or inner.is_contiguous(memory_format=torch.channels_last), "what follows is faster"


# -- residual blocks -----------------------------------------------------------------------------------------------
def test_residual_blocks_start_as_the_identity() -> None:
    x = normal(2, 32, 6, 6)
    assert torch.equal(ResidualBlock(32, gain=1.0)(x), x)
    assert torch.equal(Bottleneck(32, R3ganConfig(), gain=1.0, wrap=(False, False))(x), x)


@pytest.mark.parametrize(("layers", "power"), [(2, -1 / 2), (3, -1 / 4)])
def test_fixup_scales_all_but_the_last_layer_by_depth(layers: int, power: float) -> None:
    assert fixup_gain(16, layers) == pytest.approx(math.sqrt(2 / 1.04) * 16**power)
    block = ResidualBlock(64, gain=fixup_gain(16, 2))
    assert block.first.weight.std().item() == pytest.approx(fixup_gain(16, 2) / math.sqrt(64 * 9), rel=0.02)


def test_r3gan_has_the_parameters_of_the_paper() -> None:
    """Appendix: 23.06 million in the generator and 23.01 million in the discriminator at 256 pixels."""
    family = make_family("gan/r3gan/ffhq256", ImageSpec(height=256, width=256, channels=3))
    with torch.device("meta"):
        networks = family.build()
    millions = {part: sum(p.numel() for p in net.parameters()) / 1e6 for part, net in networks.items()}
    assert millions["generator"] == pytest.approx(23.06, abs=0.005)
    assert millions["discriminator"] == pytest.approx(23.01, abs=0.05)


# -- style ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("up", [False, True])
def test_demodulated_output_has_unit_variance_for_unit_input(up: bool) -> None:
    """Whatever the style; without demodulation the style's size goes through (Karras et al. 2020, Eq. 3)."""
    torch.manual_seed(0)
    layer = ModulatedConv2d(64, 64, 3, style=16, up=up, wrap=BOTH_WRAP)
    x, w = normal(16, 64, 8, 8), 5 * normal(16, 16, key="w")
    variance = layer(x, w).var(dim=(1, 2, 3))
    if up:  # the filter after the transposed convolution takes away what is above the coarse grid's frequencies
        assert variance.max() / variance.min() < 1.3
    else:
        torch.testing.assert_close(variance, torch.ones(16), rtol=0.15, atol=0)
    layer.demodulate = False
    assert layer(x, w).var(dim=(1, 2, 3)).mean() > 5


def test_modulating_activations_is_modulating_weights() -> None:
    """Against Eqs. 1 and 3 as they stand: a kernel of its own for each picture."""
    torch.manual_seed(0)
    layer = ModulatedConv2d(6, 5, 3, style=4).double()
    x, w = normal(3, 6, 7, 9).double(), normal(3, 4, key="w").double()
    style = layer.affine(w)
    for index in range(3):
        kernel = layer.weight * layer.scale * style[index][None, :, None, None]
        kernel = kernel * (kernel.square().sum(dim=(1, 2, 3), keepdim=True) + 1e-8).rsqrt()
        expected = F.conv2d(x[index : index + 1], kernel, padding=1)
        torch.testing.assert_close(layer(x, w)[index : index + 1], expected, rtol=1e-5, atol=1e-5)


def test_minibatch_deviation_is_zero_for_equal_pictures_and_known_for_two() -> None:
    one = normal(1, 3, 4, 4)
    plane = minibatch_deviation(one.repeat(6, 1, 1, 1), 4)[:, 3]
    torch.testing.assert_close(plane, torch.full((6, 4, 4), 1e-4))  # the root of what keeps it differentiable
    pair = minibatch_deviation(torch.cat([one, one + 2]), 2)
    torch.testing.assert_close(pair[:, :3], torch.cat([one, one + 2]))
    torch.testing.assert_close(pair[:, 3], torch.ones(2, 4, 4))
    # Groups are neighbours: the first two are equal, the next two are not.
    plane = minibatch_deviation(torch.cat([one, one, one, one + 2]), 2)[:, 3, 0, 0]
    torch.testing.assert_close(plane, torch.tensor([1e-4, 1e-4, 1.0, 1.0]))


def test_mixing_leaves_the_first_levels_and_the_unmixed_pictures() -> None:
    w, other = torch.zeros(1000, 5, 3), torch.ones(1000, 5, 3)
    at = torch.rand(1000, generator=generator_for("at"))
    mixed = mix_levels(w, other, at, 0.8)[:, :, 0]
    assert (mixed[:, 0] == 0).all()
    assert (mixed[at >= 0.8] == 0).all() and (mixed[at < 0.8, -1] == 1).all()
    assert (mixed.diff(dim=1) >= 0).all(), "once changed, all finer levels are the other's"
    share = mixed.mean(dim=0)  # each level from 1 to 4 begins a quarter of the changes
    torch.testing.assert_close(share, 0.8 * torch.arange(5) / 4, atol=0.05, rtol=0)


def test_levels_style_their_own_grids_only() -> None:
    """Changing fine levels of w moves no feature of the coarse grids."""
    family = bound("stylegan2", ImageSpec(height=16, width=16, channels=3))
    generator = generator_of(built(family))
    w = generator.map(normal(2, 8), None)
    assert w.shape == (2, 6, 8)  # grids of 4, 8 and 16 pixels: 1 + 2 + 2 convolutions, and the last picture layer
    seen: list[Tensor] = []
    generator.get_submodule("convolutions")[2].register_forward_hook(lambda *call: seen.append(call[2]))  # type: ignore[operator]
    changed = torch.cat([w[:, :3], normal(2, 3, 8, key="fine")], dim=1)
    pictures = [generator.synthesise(each) for each in (w, changed)]
    assert torch.equal(*seen) and not torch.equal(*pictures)


def test_path_length_of_a_linear_generator() -> None:
    """G(w) = A w has |J^T y| = |A^T y|, and with A orthogonal the mean of the squares is W over the pixels."""
    basis = torch.linalg.qr(normal(64, 64))[0][:, :8]  # [64 values, W = 8]
    w = normal(500, 1, 8, key="w").requires_grad_(True)
    pictures = (w[:, 0] @ basis.t()).view(500, 1, 8, 8)
    direction = normal(500, 1, 8, 8, key="y")
    lengths = path_lengths(pictures, w, direction)
    expected = (direction.flatten(1) @ basis).norm(dim=1) / 8
    torch.testing.assert_close(lengths, expected)
    assert lengths.square().mean().item() == pytest.approx(8 / 64, rel=0.1)
    levels = w.expand(-1, 2, -1)
    pictures = ((levels[:, 0] + levels[:, 1]) @ basis.t()).view(500, 1, 8, 8)
    torch.testing.assert_close(path_lengths(pictures, levels, direction), expected)  # the mean over levels


def test_path_length_penalty_goes_to_its_average_and_pulls_lengths_together() -> None:
    family = bound("stylegan2", ImageSpec(height=8, width=8, channels=1))
    phase = next(phase for phase in family.stages()[0].phases if phase.name == "path length")
    assert phase.parts == ("generator",) and phase.interval == 4
    networks = built(family)
    average = networks["generator"].get_buffer("path_average")
    noise = family.noise(32, generator_for("n"), "train")
    batch = Batch(torch.zeros(32, 1, 8, 8))
    first = family.losses(phase, networks, batch, noise, 0.0)
    assert average.item() == pytest.approx(0.01 * first["path length"].item())
    for _ in range(400):
        with torch.no_grad():
            average.lerp_(first["path length"], 0.01)
    again = family.losses(phase, networks, batch, noise, 0.0)
    assert again["loss"] < 0.5 * first["loss"], "at the average what is left is the spread"
    again["loss"].backward()
    gradient = networks["generator"].get_submodule("mapping").layers[0].weight.grad  # type: ignore[union-attr,index]
    assert gradient.abs().sum() > 0


def test_truncation_in_w_ends_at_the_mean_of_w() -> None:
    family = bound("stylegan2", ImageSpec(height=8, width=8, channels=1))
    networks = built(family)
    generator = generator_of(networks)
    for index in range(600):
        generator.map(normal(32, 8, key=f"z{index}"), None)
    mean = generator.get_buffer("w_mean").clone()
    generator.eval()
    ws = generator.map(normal(4000, 8, key="many"), None)[:, 0]
    torch.testing.assert_close(mean, ws.mean(dim=0), atol=0.05, rtol=0.05)
    assert torch.equal(generator.get_buffer("w_mean"), mean), "sampling moves nothing"
    noise = family.noise(8, generator_for("n"), "sample")
    spread = {}
    for truncation in (0.0, 0.5, 1.0):
        w = family.map(networks, noise, None, RenderOptions(truncation=truncation))
        spread[truncation] = w.var(dim=0).mean().item()
        if truncation == 0:
            torch.testing.assert_close(w, mean.expand(8, generator.levels, 8))  # type: ignore[arg-type]
    assert spread[0.0] < 1e-12 and spread[0.5] == pytest.approx(spread[1.0] / 4, rel=1e-4)


@pytest.mark.parametrize("name", list(NETWORKS))
def test_map_and_synthesise_are_render(name: str) -> None:
    family = bound(name, ImageSpec(height=12, width=8, channels=4), 3)
    networks, labels = built(family), torch.tensor([0, 1, 2])
    for network in networks.values():
        network.eval()
    noise, options = family.noise(3, generator_for("n"), "sample"), RenderOptions(truncation=0.7)
    w = family.map(networks, noise, labels, options)
    assert w.dim() == 3 and len(w) == 3
    pictures = family.synthesise(networks, w, noise)
    assert torch.equal(pictures, family.render(networks, noise, labels, options))
    assert not torch.equal(pictures, family.synthesise(networks, w.flip(0), noise))
    if name != "stylegan2":  # truncation scales z
        shorter = family.map(networks, {"z": 0.7 * noise["z"]}, labels, RenderOptions())
        assert torch.equal(shorter, w)


# -- any size, and wrapping ----------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", RESIDUAL)
def test_networks_commute_with_a_shift_of_the_base_grid_where_they_wrap(name: str) -> None:
    """Everything after the base grid, and the whole discriminator before its head, sees a torus."""
    spec = ImageSpec(height=16, width=32, channels=3, wrap_x=True, wrap_y=True)
    family = bound(name, spec)
    networks = built(family)
    generator, discriminator = networks["generator"].eval(), networks["discriminator"].eval()
    for network in (generator, discriminator):
        for parameter in network.parameters():  # blocks that are not the identity, biases that are not zero
            if parameter.abs().sum() == 0:
                nn.init.normal_(parameter, 0.0, 0.1)
    noise = family.noise(2, generator_for("n"), "sample")
    plain = family.render(networks, noise, None, RenderOptions())
    shifted = dict(noise)
    if name == "resnet":
        project = generator.get_submodule("project")
        for parameter in project.parameters():  # [h * w * C, ...]: one base pixel to the right, one down
            rows = parameter.data.unflatten(0, (4, 8, -1))
            parameter.data.copy_(rows.roll((1, 1), dims=(0, 1)).flatten(0, 2))
    else:
        base = generator.get_parameter("basis" if name == "r3gan" else "constant")
        base.data.copy_(base.data.roll((1, 1), dims=(2, 3)))
    if "inputs" in noise:
        sides = generator.sides
        planes = noise["inputs"].split([height * width for height, width in sides], dim=1)  # type: ignore[union-attr]
        rolled = [
            plane.view(2, *each).roll((each[0] // 4, each[1] // 8), dims=(1, 2)).flatten(1)
            for plane, each in zip(planes, sides, strict=True)  # type: ignore[arg-type]
        ]
        shifted["inputs"] = torch.cat(rolled, dim=1)
    moved = family.render(networks, shifted, None, RenderOptions())
    torch.testing.assert_close(moved, plain.roll((4, 4), dims=(2, 3)), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(moved, plain, atol=1e-2)

    seen: list[Tensor] = []
    last = {"resnet": "stages.2", "r3gan": "stages.2", "stylegan2": "last"}[name]
    last = "stages.1" if name == "resnet" else last  # patches of two pixels: a grid less
    discriminator.get_submodule(last).register_forward_hook(lambda *call: seen.append(call[2]))
    images = normal(2, 3, 16, 32)
    for each in (images, images.roll((4, 4), dims=(2, 3))):
        discriminator(each, None)
    torch.testing.assert_close(seen[1], seen[0].roll((1, 1), dims=(2, 3)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", RESIDUAL)
def test_a_wrapped_axis_must_halve_exactly(name: str) -> None:
    spec = ImageSpec(height=64, width=100, channels=3, wrap_x=True)
    with pytest.raises(UserError, match=r"width 100.*the nearest is (96|112)"):
        bound(name, spec).build()
    sides = {"height": 64, "width": 96, "channels": 3, "wrap_x": True}
    family = bound(name, ImageSpec(**sides))
    with torch.device("meta"):
        family.build()


@pytest.mark.parametrize("sides", [(4, 4), (8, 512), (44, 28), (20, 60)], ids=str)
@pytest.mark.parametrize("name", RESIDUAL)
def test_sizes_at_the_ends(name: str, sides: tuple[int, int]) -> None:
    family = bound(name, ImageSpec(height=sides[0], width=sides[1], channels=4), 2)
    networks, labels = built(family), torch.tensor([0, 1])
    pictures = family.render(networks, family.noise(2, generator_for("n"), "sample"), labels, RenderOptions())
    assert pictures.shape == (2, 4, *sides)
    assert networks["discriminator"](pictures, labels).shape == (2,)


@pytest.mark.parametrize("kernel", [1, 3])
def test_halving_convolution_halves(kernel: int) -> None:
    layer = EqualConv2d(3, 5, kernel, down=True, wrap=BOTH_WRAP)
    x = normal(2, 3, 8, 12)
    assert layer(x).shape == (2, 5, 4, 6)
    torch.testing.assert_close(layer(x.roll(2, dims=3)), layer(x).roll(1, dims=3))


@pytest.mark.parametrize("name", RESIDUAL)
def test_finite_differences_stay_accurate_in_bfloat16(name: str) -> None:
    """The difference of logits at a distance of 0.05 under bfloat16 autocast against float32."""
    family = bound(name, ImageSpec(height=16, width=16, channels=3), **{"network.width": 32, "network.max_width": 64})
    discriminator = built(family)["discriminator"].eval()
    x, e = normal(64, 3, 16, 16).clamp(-1, 1), normal(64, 3, 16, 16, key="e")

    def penalty() -> Tensor:
        return ((discriminator(x + 0.05 * e, None) - discriminator(x, None)) / 0.05).square().mean()

    with torch.no_grad():
        exact = penalty()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert discriminator(x, None).dtype == torch.float32
            rough = penalty()
    assert 0.8 < (rough / exact).item() < 1.25


@pytest.mark.parametrize("name", RESIDUAL)
def test_bfloat16_steps_move_as_float32_ones(name: str) -> None:
    family = bound(name, ImageSpec(height=12, width=8, channels=3), 2)
    batch = Batch(normal(8, 3, 12, 8).clamp(-1, 1), torch.arange(8) % 2)
    for phase in family.stages()[0].phases:
        noise, norms = family.noise(8, generator_for("n"), "train"), []
        for precision in ("float32", "bfloat16"):
            stepper = Stepper(family, built(family), precision)  # type: ignore[arg-type]
            terms, skipped = stepper.step(phase, batch, noise, progress=0.5, average=0.5)
            assert skipped.item() == 0
            norms.append(terms["gradient norm"].item())
        assert norms[1] == pytest.approx(norms[0], rel=0.1), phase.name


@pytest.mark.parametrize("wrap", [(False, False), (True, True), (True, False)])
def test_a_blur_takes_out_what_alternates_and_keeps_what_does_not(wrap: tuple[bool, bool]) -> None:
    y, x = torch.meshgrid(torch.arange(8), torch.arange(6), indexing="ij")
    inside = (slice(None), slice(None), slice(1, -1), slice(None) if wrap[0] else slice(1, -1))
    for pattern in ((-1.0) ** x, (-1.0) ** y, (-1.0) ** (x + y)):
        flat = torch.full((1, 2, 8, 6), 0.7)
        torch.testing.assert_close(blur(flat + pattern, wrap)[inside], flat[inside])
    picture = torch.randn(1, 1, 8, 6, generator=generator_for("blur"))
    whole = sum(picture.roll((dy, dx), (2, 3)) * weight for dy, dx, weight in (
        (a, b, (2 - abs(a)) * (2 - abs(b)) / 16) for a in (-1, 0, 1) for b in (-1, 0, 1)))  # fmt: skip
    torch.testing.assert_close(blur(picture, wrap)[inside], whole[inside])  # type: ignore[index]


def test_a_bounded_output_is_tanh_and_its_gradient_that_of_tanh_but_for_the_way_back() -> None:
    x = torch.tensor([-9.0, -9.0, -0.5, -0.5, 0.7, 0.7, 9.0, 9.0], requires_grad=True)
    upstream = torch.tensor([1.0, -1.0] * 4)
    y = bounded(x)
    assert torch.equal(y, torch.tanh(x.detach()))
    (gradient,) = torch.autograd.grad((y * upstream).sum(), x)
    slope = 1 - torch.tanh(x.detach()).square()
    back = torch.sign(x.detach()) == upstream  # descent goes the other way, towards 0
    assert torch.allclose(gradient[~back], (upstream * slope)[~back])
    assert torch.allclose(gradient[back], (upstream * slope.clamp_min(0.1))[back])
    assert gradient[1].abs() > 0.09 and gradient[0].abs() < 1e-6


def test_a_bounded_output_has_second_derivatives() -> None:
    x = torch.tensor([-0.9, 0.3, 1.1], dtype=torch.float64, requires_grad=True)  # where no slope is below a tenth
    assert torch.autograd.gradgradcheck(bounded, (x,))


def test_a_black_generator_comes_back() -> None:
    x = torch.full((4,), -12.0, requires_grad=True)
    for _ in range(100):
        (gradient,) = torch.autograd.grad((bounded(x) - 0.5).square().sum(), x)
        x = (x - gradient).detach().requires_grad_(True)
    assert torch.allclose(bounded(x), torch.tensor(0.5), atol=0.05)
