"""Finite scalar and vector quantisation: tokens and back, gradients, codebook and meter, in closed form."""

from __future__ import annotations

import pytest
import torch

from zeuxis.config import ImageSpec
from zeuxis.errors import UserError
from zeuxis.nn.codec import Codec
from zeuxis.nn.quantise import DECAY, FSQ, FSQ_LEVELS, VQ, fsq_levels
from zeuxis.randomness import generator_for


def vectors(channels: int, count: int = 2, side: int = 8, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, channels, side, side, generator=generator_for("quantise", seed))


@pytest.mark.parametrize("levels", [(4, 5), (8, 6, 5), (7, 5, 5, 5, 5)])
def test_fsq_tokens_number_every_point_of_the_grid_once(levels: tuple[int, ...]) -> None:
    quantiser = FSQ(levels)
    everything = torch.arange(quantiser.size).view(1, 1, -1)
    points = quantiser.decode_tokens(everything)
    assert len(points[0, :, 0].t().unique(dim=0)) == quantiser.size
    assert points.min() >= -1 and points.max() <= 1
    for channel, level in enumerate(levels):
        found = points[0, channel].unique()
        torch.testing.assert_close(found, (torch.arange(level) - level // 2) / (level // 2))
    quantised, tokens, _ = quantiser(vectors(len(levels)) * 3)
    torch.testing.assert_close(quantiser.decode_tokens(tokens), quantised)


def test_fsq_takes_the_nearest_level_and_passes_the_gradient_of_the_bound() -> None:
    quantiser = FSQ((5, 4))
    z = vectors(2).requires_grad_(True)
    quantised, _, _ = quantiser(z)
    odd = 2 * (1 + 1e-3) * torch.tanh(z[:, 0])  # five levels: no offset
    torch.testing.assert_close(quantised[:, 0], odd.round() / 2)
    quantised.sum().backward()
    torch.testing.assert_close(z.grad[:, 0], (1 + 1e-3) * (1 - torch.tanh(z[:, 0]).square()))


def test_crowding_is_the_divergence_of_the_codes_from_equal_frequencies() -> None:
    quantiser = FSQ((5, 4))
    z = vectors(2, side=32)
    assert not quantiser(z)[2]["crowding"].any()  # nothing is known yet
    quantiser.update()  # the meter's first step counts in full
    quantiser.eval()
    crowding = quantiser(z)[2]["crowding"]
    assert crowding.shape == (2,)
    entropy = torch.special.entr(quantiser.usage.share).sum()
    torch.testing.assert_close(crowding.sum() / (2 * 32 * 32), torch.tensor(20.0).log() - entropy)


def test_crowding_pulls_each_channel_towards_the_rarer_code() -> None:
    quantiser = FSQ((5, 4)).eval()
    z = torch.zeros(1, 2, 1, 2, requires_grad=True)  # the level in the middle, and the second of four or the third
    tokens = quantiser(z)[1].flatten()
    assert len(tokens.unique()) == 1
    middle = int(tokens[0])
    quantiser.usage.share.fill_(1 / 20)
    (flat,) = torch.autograd.grad(quantiser(z)[2]["crowding"].sum(), z)
    assert not flat.any()
    for neighbour, channel, sign in [(middle - 1, 0, 1), (middle + 1, 0, -1), (middle - 5, 1, 1), (middle + 5, 1, -1)]:
        quantiser.usage.share.fill_(1 / 20)
        quantiser.usage.share[neighbour] = 1 / 40
        (slope,) = torch.autograd.grad(quantiser(z)[2]["crowding"].sum(), z)
        assert (slope[:, 1 - channel] == 0).all() and (slope[:, channel].sign() == sign).all()
        bounded = FSQ._bound(z, quantiser._levels(z))
        (steepness,) = torch.autograd.grad(bounded.sum(), z)
        expected = sign * torch.tensor(2.0).log() / 2 * steepness[:, channel]  # half: the code to both sides of one
        torch.testing.assert_close(slope[:, channel], expected)


def test_levels_of_a_wanted_number_of_codes() -> None:
    assert fsq_levels(512) == (8, 8, 8) and fsq_levels(1024) == (8, 5, 5, 5) and fsq_levels(2) == (4, 4)
    for size, levels in FSQ_LEVELS.items():
        assert torch.tensor(levels).prod() == size


def test_vq_takes_the_nearest_code_and_passes_the_gradient() -> None:
    quantiser = VQ(11, 3)
    z = vectors(3).requires_grad_(True)
    quantised, tokens, terms = quantiser(z)
    rows = z.detach().permute(0, 2, 3, 1).reshape(-1, 3)
    distances = torch.cdist(rows, quantiser.codebook)
    assert torch.equal(tokens.flatten(), distances.argmin(dim=1))
    torch.testing.assert_close(quantiser.decode_tokens(tokens), quantised)
    nearest = distances.min(dim=1).values.square().view(2, -1).sum(1)
    torch.testing.assert_close(terms["commitment"], nearest)
    (gradient,) = torch.autograd.grad(quantised.square().sum(), z)
    torch.testing.assert_close(gradient, 2 * quantised.detach())


def test_vq_codes_are_moving_averages_of_what_took_them() -> None:
    quantiser = VQ(4, 2)
    quantiser(vectors(2, seed=1))
    quantiser.update()  # the first step fills the codebook
    share, moment = quantiser.usage.share.clone(), quantiser.moment.clone()
    z = vectors(2, seed=2)
    _, tokens, _ = quantiser(z)
    quantiser.update()
    rows, tokens = z.permute(0, 2, 3, 1).reshape(-1, 2), tokens.flatten()
    for code in range(4):
        mine = rows[tokens == code]
        of_code = DECAY * share[code] + (1 - DECAY) * len(mine) / len(rows)
        mean = (DECAY * moment[code] + (1 - DECAY) * mine.sum(0) / len(rows)) / of_code
        torch.testing.assert_close(quantiser.codebook[code], mean)


def test_vq_restarts_codes_out_of_use_at_vectors_of_the_batch() -> None:
    quantiser = VQ(8, 2)
    for step in range(3):
        quantiser(vectors(2, seed=step))
        quantiser.update()
    assert quantiser.usage.in_use() == 1
    with torch.no_grad():
        quantiser.codebook[5] = 1000.0
        quantiser.usage.share[5] = 0.0
    z = vectors(2, seed=9)
    assert quantiser(z)[2]["codes in use"] == 7 / 8
    quantiser.update()
    assert (torch.cdist(quantiser.codebook[5:6], z.permute(0, 2, 3, 1).reshape(-1, 2)) < 1e-6).any()
    assert quantiser.usage.in_use() == 1


def test_micro_batches_add_up_and_a_step_that_saw_nothing_changes_nothing() -> None:
    torch.manual_seed(0)
    whole, parts = VQ(8, 2), VQ(8, 2)
    parts.load_state_dict(whole.state_dict())
    z = vectors(2, count=4)
    for quantiser, pieces in ((whole, 1), (parts, 2)):
        quantiser.usage.share.fill_(1 / 8)
        quantiser.moment.copy_(quantiser.codebook / 8)
        for piece in z.chunk(pieces):
            quantiser(piece)
        quantiser.update()
    torch.testing.assert_close(whole.codebook, parts.codebook)
    before = {key: value.clone() for key, value in whole.state_dict().items()}
    whole.update()
    whole.eval()(z)
    assert all(torch.equal(before[key], value) for key, value in whole.state_dict().items())


def test_the_meter_knows_how_many_codes_there_are() -> None:
    quantiser = FSQ((5, 5))
    quantiser.usage.count(torch.arange(10))
    quantiser.usage.update()
    torch.testing.assert_close(quantiser.usage.in_use(), torch.tensor(0.4))
    torch.testing.assert_close(quantiser.usage.perplexity(), torch.tensor(10.0))


@pytest.mark.parametrize("make", [lambda: FSQ((5, 4)), lambda: VQ(20, 6)], ids=["fsq", "vq"])
def test_a_codec_goes_to_tokens_and_back(make: object) -> None:
    spec = ImageSpec(height=12, width=20, channels=4)
    torch.manual_seed(0)
    codec = Codec(spec, make(), factor=8, width=8, max_width=16, blocks=1, outputs=7, classes=3).eval()  # type: ignore[operator]
    images, labels = torch.rand(3, 4, 12, 20), torch.tensor([0, 1, 2])
    output, tokens, _ = codec(images, labels)
    assert output.shape == (3, 7, 12, 20) and tokens.shape == (3, *codec.grid) == (3, 2, 3)
    assert torch.equal(tokens, codec.encode(images, labels))
    torch.testing.assert_close(codec.decode_tokens(tokens, labels), output)
    assert not torch.equal(codec.decode_tokens(tokens, labels.flip(0)), output)


def test_a_wrapped_codec_turns_with_the_picture() -> None:
    spec = ImageSpec(height=8, width=16, channels=3, wrap_x=True)
    torch.manual_seed(0)
    codec = Codec(spec, FSQ((5, 5)), factor=4, width=8, max_width=16, blocks=1).eval()
    images = torch.rand(2, 3, 8, 16)
    with torch.no_grad():
        codec.encoder.last.weight.mul_(2)  # else every position has the same token
    assert len(codec.encode(images).unique()) > 3
    output, turned = codec(images)[0], codec(images.roll(4, dims=3))[0]
    torch.testing.assert_close(output.roll(4, dims=3), turned)
    with pytest.raises(UserError, match="the nearest is 16"):
        Codec(ImageSpec(height=8, width=20, wrap_x=True), FSQ((5, 5)), factor=8)
