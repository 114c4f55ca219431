"""Networks over frames: their equations against independent ones, causality, scheduled sampling, futures, metrics."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.distributions import Normal, kl_divergence

from zeuxis.config import ImageSpec
from zeuxis.errors import UserError
from zeuxis.families import make_family
from zeuxis.families.autoregressive.convlstm import ConvLSTMCell
from zeuxis.families.autoregressive.frames import true_frames
from zeuxis.families.autoregressive.futures import divergence
from zeuxis.families.autoregressive.patches import Moves, next_frame, to_frames, to_patches
from zeuxis.families.autoregressive.predrnn import SpatioTemporalLSTM
from zeuxis.families.autoregressive.svg import REACH, SHIFTS, shifts
from zeuxis.families.base import Batch, Family, RenderOptions
from zeuxis.images import to_float, to_pixels
from zeuxis.metrics import frames as metrics
from zeuxis.nn.advection import advect
from zeuxis.randomness import generator_for

SPEC = ImageSpec(height=12, width=16, channels=1, frames=6)
NAMES = ("convlstm", "predrnn", "svg")


def bound(name: str, spec: ImageSpec = SPEC, **settings: object) -> tuple[Family, dict[str, nn.Module]]:
    family = make_family(f"autoregressive/{name}/tiny", spec, 0, settings)
    torch.manual_seed(0)
    networks = family.build()
    return family, {part: network.eval() for part, network in networks.items()}


def clips(count: int = 2, spec: ImageSpec = SPEC) -> torch.Tensor:
    return torch.rand(count, *spec.item_shape, generator=generator_for("clips")) * 2 - 1


@torch.no_grad()
def test_a_convolutional_lstm_of_one_place_is_an_lstm() -> None:
    torch.manual_seed(0)
    cell, reference = ConvLSTMCell(3, 5, 1, (False, False)), nn.LSTMCell(3, 5)
    weight, bias = cell.gates.weight[:, :, 0, 0], cell.gates.bias  # rows i, f, o, g; PyTorch has i, f, g, o
    order = torch.cat([torch.arange(10), torch.arange(15, 20), torch.arange(10, 15)])
    reference.weight_ih.copy_(weight[order, :3])
    reference.weight_hh.copy_(weight[order, 3:])
    reference.bias_ih.copy_(bias[order])  # type: ignore[index]
    reference.bias_hh.zero_()
    memory, own = None, None
    for x in torch.randn(4, 2, 3):
        memory = reference(x, memory)
        own = cell(x[:, :, None, None], own)
    for mine, theirs in zip(own, memory, strict=True):  # type: ignore[arg-type]
        torch.testing.assert_close(mine[:, :, 0, 0], theirs)


@torch.no_grad()
def test_the_st_lstm_is_that_of_the_paper() -> None:
    """Equation 3 of arXiv 2103.09504 gate by gate, at one place with 1x1 kernels."""
    torch.manual_seed(0)
    cell = SpatioTemporalLSTM(3, 2, 1, (False, False))
    x, hidden, c, m = torch.randn(1, 3), torch.randn(1, 2), torch.randn(1, 2), torch.randn(1, 2)

    def place(value: torch.Tensor) -> torch.Tensor:
        return value[:, :, None, None]

    def conv(layer: nn.Conv2d, value: torch.Tensor) -> torch.Tensor:
        bias = 0 if layer.bias is None else layer.bias
        return value @ layer.weight[:, :, 0, 0].T + bias

    i, f, o, g = conv(cell.of_hidden, torch.cat([x, hidden], 1)).split(2, 1)
    c_new = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    i, f, g = conv(cell.of_memory, torch.cat([x, m], 1)).split(2, 1)
    m_new = torch.sigmoid(f) * m + torch.sigmoid(i) * torch.tanh(g)
    both = torch.cat([c_new, m_new], 1)
    h_new = torch.sigmoid(o + conv(cell.to_output, both)) * torch.tanh(conv(cell.join, both))
    found = cell(place(x), (place(hidden), place(c)), place(m), None)
    for mine, theirs in zip(found, (h_new, c_new, m_new), strict=True):
        torch.testing.assert_close(mine[:, :, 0, 0], theirs)


def test_patches_are_the_frame_and_back() -> None:
    frames = clips()
    patches = to_patches(frames)
    assert patches.shape == (2, 6, 16, 3, 4) and torch.equal(to_frames(patches), frames)
    assert torch.equal(patches[0, 0, :, 0, 1], frames[0, 0, 0, :4, 4:8].flatten()), "a patch is a square"


def kernels(count: int, taps: int = 5, grid: tuple[int, int] = (2, 3)) -> torch.Tensor:
    """Distributions over shifts of patches of 4x4, `[count, taps, h, w]` in float64."""
    return torch.rand(count, taps, *grid, generator=generator_for("kernels"), dtype=torch.float64).softmax(1)


@pytest.mark.parametrize("wrap", [(False, False), (True, False), (True, True)])
def test_advection_is_its_sum_pixel_by_pixel(wrap: tuple[bool, bool]) -> None:
    x = torch.randn(2, 3, 8, 12, generator=generator_for("x"), dtype=torch.float64)
    down, across = kernels(2), kernels(2).flip(1)

    def along(x: torch.Tensor, weights: torch.Tensor, dim: int, wraps: bool) -> torch.Tensor:
        out = torch.zeros_like(x)
        for y in range(8):
            for across in range(12):
                for tap in range(5):
                    place = [y, across]
                    place[dim] += tap - 2
                    if wraps:
                        place[dim] %= x.shape[2 + dim]
                    if 0 <= place[dim] < x.shape[2 + dim]:
                        weight = weights[:, tap, y // 4, across // 4, None]
                        out[:, :, y, across] += weight * x[:, :, place[0], place[1]]
        return out

    wanted = along(along(x, down, 0, wrap[1]), across, 1, wrap[0])
    torch.testing.assert_close(advect(x, down, across, 4, wrap), wanted)


def test_advection_has_the_right_gradients() -> None:
    x = torch.randn(1, 2, 4, 8, generator=generator_for("x"), dtype=torch.float64)
    inputs = [each.requires_grad_() for each in (x, kernels(1, 3, (1, 2)), kernels(1, 3, (1, 2)).flip(1))]
    assert torch.autograd.gradcheck(lambda *each: advect(*each, 4, (True, False)), inputs)


@pytest.mark.parametrize("channels", [1, 3, 4])
@torch.no_grad()
def test_a_frame_can_be_moved_without_new_values(channels: int) -> None:
    """With all weight on one way, and that on one shift, the next frame is the given one moved by it."""
    spec = ImageSpec(height=12, width=16, channels=channels, frames=6, wrap_x=True, wrap_y=True)
    head = next_frame(5, spec, 2)
    assert isinstance(head, Moves)
    for layer in (head.to_patches, head.to_kernels):
        layer.weight.zero_()
        layer.bias.zero_()
    head.to_patches.bias.view(5, -1)[4] = 50.0  # rows: new values, then masks of given, new, first and second way
    head.to_kernels.bias.view(2, 2, 9)[0, 1, 4 - 3] = 50.0  # what was 3 pixels above
    head.to_kernels.bias.view(2, 2, 9)[1, 1, 4 + 1] = 50.0  # and one to the right
    frame = clips(spec=spec)[:, 0]
    after = to_frames(head(torch.randn(2, 5, 3, 4), to_patches(frame)))
    torch.testing.assert_close(after, torch.roll(frame, (3, -1), (2, 3)))


@pytest.mark.parametrize("name", ["convlstm", "predrnn"])
@torch.no_grad()
def test_no_prediction_sees_its_own_frame_or_a_later_one(name: str) -> None:
    family, networks = bound(name)
    true, use = to_patches(clips()), torch.ones(2, 5, dtype=torch.bool)
    before = family.method.unroll(networks, true, use, None)  # type: ignore[attr-defined]
    for changed in range(1, 6):
        other = true.clone()
        other[:, changed:] = 0.3
        after = family.method.unroll(networks, other, use, None)  # type: ignore[attr-defined]
        assert torch.equal(before[:, :changed], after[:, :changed]), "prediction k is of frame k + 1"
        assert changed == 5 or not torch.equal(before[:, changed], after[:, changed]), "and it does see frame k"


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_predictions_do_not_depend_on_how_many_follow(name: str) -> None:
    """Nothing looks ahead: a longer prediction begins with the shorter one, and goes on from it."""
    family, networks = bound(name)
    noise, given = family.noise(2, generator_for("n"), "sample"), clips()[:, :3]
    short, long = (family.predict(networks, given, count, None, noise, RenderOptions()) for count in (2, 9))
    assert torch.equal(short, long[:, :2]) and not torch.equal(long[:, 1], long[:, 8])


@torch.no_grad()
def test_the_posterior_alone_sees_the_next_frame() -> None:
    """Training: with z from the posterior the next frame matters to the divergence; the prior's part of it comes from
    the frames before alone."""
    _family, networks = bound("svg")
    net, true = networks["network"], to_patches(clips())

    def believed(beliefs: torch.nn.Module, change: torch.nn.Module, frames: torch.Tensor, next_one: int) -> list:
        memory, means = None, []
        for place in range(5):
            first = max(0, place - 1 + next_one)
            mean, _, memory = beliefs(change(frames[:, first], frames[:, place + next_one]), memory)
            means.append(mean)
        return means

    other = true.clone()
    other[:, 3:] = 0.3
    for beliefs, change, next_one in ((net.prior, net.seen, 0), (net.posterior, net.coming, 1)):
        pairs = zip(*(believed(beliefs, change, frames, next_one) for frames in (true, other)), strict=True)
        assert [torch.equal(one, two) for one, two in pairs] == [place + next_one < 3 for place in range(5)]


@torch.no_grad()
def test_the_shift_between_two_frames_is_found() -> None:
    frame = torch.full((2, 1, 24, 20), -1.0)
    frame[:, :, 9:15, 7:12] = torch.rand(6, 5, generator=generator_for("object")) * 2
    for down, across in ((0, 0), (3, -2), (-4, 4)):
        found = shifts(frame, frame.roll((down, across), (2, 3)))
        assert found.shape == (2, SHIFTS) and torch.allclose(found.sum(1), torch.ones(2))
        # The frame before is looked at where the thing came from.
        assert found.argmax(1).tolist() == [(REACH - down) * (2 * REACH + 1) + REACH - across] * 2
    frame = frame.roll((0, 8), (2, 3))  # at the right edge: what goes on comes back at the left one
    found = shifts(frame, frame.roll((0, 4), (2, 3)), (True, False))
    assert found.argmax(1).tolist() == [REACH * (2 * REACH + 1)] * 2 and found.max() > 0.99


@torch.no_grad()
def test_z_says_where_everything_moves() -> None:
    _family, networks = bound("svg", SPEC.model_copy(update={"wrap_x": True, "wrap_y": True}))
    net, frame = networks["network"], clips()[:, 0]
    for layer in (net.to_patches.to_patches, net.to_patches.to_kernels, net.to_way):
        layer.weight.zero_()
        layer.bias.zero_()
    net.to_patches.to_patches.bias.view(4, -1)[3] = 50.0  # rows: new values, then masks of given, new and the one way
    of_first = net.to_way.weight.view(2, 2 * Moves.REACH + 1, 2)[..., 0]
    of_first[0, Moves.REACH - 3] = 50.0  # with the first number of z: what was 3 pixels above
    of_first[1, Moves.REACH + 1] = 50.0  # and one to the right
    z = torch.tensor([[1.0, 0.0], [1.0, 9.0]])
    after = to_frames(net(to_patches(frame), z, None))
    torch.testing.assert_close(after, torch.roll(frame, (3, -1), (2, 3)))


@torch.no_grad()
def test_seeds_are_futures_of_the_stochastic_network_alone() -> None:
    given = clips(1)[:, :3].repeat(2, 1, 1, 1, 1)
    for name in NAMES:
        family, networks = bound(name)
        noise = family.noise(2, generator_for("n"), "sample")
        futures = family.predict(networks, given, 4, None, noise, RenderOptions())
        likeliest = family.predict(networks, given, 4, None, noise, RenderOptions(temperature=0.0))
        assert torch.equal(likeliest[0], likeliest[1])
        assert torch.equal(futures[0], futures[1]) == (name != "svg")
    with pytest.raises(UserError, match="at most 1000 frames from one seed"):
        family.predict(networks, given, 1001, None, noise, RenderOptions())


def test_scheduled_sampling_takes_the_true_frames_away() -> None:
    uniforms = torch.rand(4000, 9, generator=generator_for("u"))
    assert true_frames(uniforms, 4, 0.0, 0.5).all()
    half = true_frames(uniforms, 4, 0.25, 0.5)
    assert half[:, :4].all() and half[:, 4:].float().mean() == pytest.approx(0.5, abs=0.02)
    assert true_frames(uniforms, 4, 0.5, 0.5).float().mean(0).tolist() == [1.0] * 4 + [0.0] * 5
    reverse = true_frames(uniforms, 4, 0.0, 0.5, reverse=True).float().mean(0)
    assert reverse[0] == 1 and reverse[1:4].mean() == pytest.approx(0.5, abs=0.02) and reverse[4:].min() == 1
    assert true_frames(uniforms, 4, 0.5, 0.5, reverse=True)[:, :4].all()


def test_where_the_true_frame_is_not_used_the_prediction_is() -> None:
    family, networks = bound("convlstm")
    true, use = to_patches(clips()), torch.ones(2, 5, dtype=torch.bool)
    use[:, 3:] = False
    other = true.clone()
    other[:, 3:] = 0.5
    found = [family.method.unroll(networks, each, use, None) for each in (true, other)]  # type: ignore[attr-defined]
    assert torch.equal(*found), "frames 4 and later are not looked at"


def test_divergence_of_two_normal_distributions() -> None:
    mean, other = torch.randn(2, 3, 4, generator=generator_for("m"))
    log_variance, other_log_variance = torch.randn(2, 3, 4, generator=generator_for("v"))
    one, two = Normal(mean, (0.5 * log_variance).exp()), Normal(other, (0.5 * other_log_variance).exp())
    own = divergence(mean, log_variance, other, other_log_variance)
    torch.testing.assert_close(own, kl_divergence(one, two).sum(1))


def test_the_loss_is_the_metric() -> None:
    """`squared error` of training is what `zeuxis evaluate` calls mse, over frames 2 to T."""
    family, networks = bound("convlstm")
    images, noise = clips(), family.noise(2, generator_for("n"), "train")
    terms = family.losses(family.stages()[0].phases[0], networks, Batch(images), noise, 0.0)
    use = torch.ones(2, 5, dtype=torch.bool)
    predicted = to_frames(family.method.unroll(networks, to_patches(images), use, None))  # type: ignore[attr-defined]
    unit = [((each + 1) / 2).detach().numpy() for each in (predicted, images[:, 1:])]
    assert terms["squared error"].mean().item() == pytest.approx(metrics.mean_squared_error(*unit), rel=1e-5)


@torch.no_grad()
def test_on_wrapped_axes_what_leaves_comes_in_on_the_other_side() -> None:
    family, networks = bound("convlstm", ImageSpec(height=12, width=16, channels=1, frames=6, wrap_x=True, wrap_y=True))
    given, noise = clips()[:, :3], family.noise(2, generator_for("n"), "sample")
    plain = family.predict(networks, given, 2, None, noise, RenderOptions())
    rolled = family.predict(networks, given.roll((4, 8), (3, 4)), 2, None, noise, RenderOptions())
    torch.testing.assert_close(plain.roll((4, 8), (3, 4)), rolled)


def test_pictures_and_clips_are_not_mixed_up() -> None:
    with pytest.raises(UserError, match="--frames: got 1, allowed: 2 or more"):
        make_family("convlstm/tiny", ImageSpec(height=8, width=8))
    with pytest.raises(UserError, match="a network over frames: convlstm, predrnn or svg"):
        make_family("dcgan/tiny", SPEC)
    with pytest.raises(UserError, match=r"objective\.context: got 6, allowed: fewer than the 6 frames"):
        make_family("svg/tiny", SPEC, 0, {"objective.context": 6})


def test_clips_of_four_channels_are_premultiplied_frame_by_frame() -> None:
    pixels = torch.randint(0, 256, (2, 4, 4, 8, 8), dtype=torch.uint8, generator=generator_for("p"))
    values = to_float(pixels)
    single = torch.stack([to_float(pixels[:, frame]) for frame in range(4)], dim=1)
    assert torch.equal(values, single)
    again = torch.stack([to_pixels(values[:, frame]) for frame in range(4)], dim=1)
    assert torch.equal(to_pixels(values), again)


def test_best_and_spread_of_futures() -> None:
    rng = np.random.default_rng(0)
    true, futures = rng.random((2, 3, 1, 4, 4)), rng.random((5, 2, 3, 1, 4, 4))
    errors = [[np.square(future[clip] - true[clip]).sum() / 3 for future in futures] for clip in range(2)]
    assert metrics.best_of(futures, true) == pytest.approx(np.min(errors, axis=1))
    pairs = [np.square(futures[a] - futures[b]).sum((1, 2, 3, 4)) / 3 for a in range(5) for b in range(a)]
    assert metrics.spread(futures) == pytest.approx(np.mean(pairs, axis=0))
