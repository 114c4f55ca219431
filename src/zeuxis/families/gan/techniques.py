"""Improved techniques for training GANs (Salimans et al. 2016, arXiv 1606.03498), each apart: none knows the others."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zeuxis.families.gan.pair import Head
from zeuxis.nn.together import batch_mean, gather

SURE = 0.95  # tau of Sohn et al. 2020, section 2.1
DIMENSIONS = 5  # of each kernel of minibatch discrimination


def feature_matching(real: Tensor, fake: Tensor) -> Tensor:
    """|E f(x) - E f(G(z))|^2 of a layer's features `[N, F]`, a scalar: what the generator minimises instead of a
    loss of logits (section 3.1)."""
    return (batch_mean(real.float()) - batch_mean(fake.float())).square().sum()


def smoothed_discriminator(real: Tensor, fake: Tensor, smoothing: float) -> Tensor:
    """The discriminator's cross-entropy `[N]` where real pictures are real with probability 1 - `smoothing` and
    generated ones are generated for certain (one-sided label smoothing, section 3.4).

    The best D is then (1 - s) p_data / (p_data + p_model): never surer than 1 - s, and 0 where there are no data. That
    is why the smoothing is one-sided: with a positive target for generated pictures, p_model would stand in the
    numerator and pictures far from the data would have no reason to move.
    """
    return (1 - smoothing) * F.softplus(-real) + smoothing * F.softplus(real) + F.softplus(fake)


def class_logit(classes: Tensor) -> Tensor:
    """The logit `[N]` of "real" of K class logits `[N, K]` beside a class "generated" whose logit is fixed at 0
    (section 5): D = Z / (Z + 1) with Z = sum of exp of the class logits."""
    return torch.logsumexp(classes.float(), dim=1)


def sure_cross_entropy(plain: Tensor, changed: Tensor) -> tuple[Tensor, Tensor]:
    """For class logits `[N, K]` of pictures and of the same pictures changed: the cross-entropy `[N]` of the changed
    ones to the class of the plain ones, 0 where that has a probability below `SURE`; and which ones count, `[N]`
    (FixMatch, Sohn et al. 2020, arXiv 2001.07685, Eq. 4; no gradient through the plain ones)."""
    probability, classes = plain.detach().softmax(1).max(1)
    counts = (probability >= SURE).float()
    return counts * F.cross_entropy(changed, classes, reduction="none"), counts


class ClassHead(Head):
    """K class logits of features; "real" is any of the K classes (semi-supervised learning with K + 1, section 5)."""

    def __init__(self, size: int, classes: int) -> None:
        super().__init__()
        self.size = size
        self.linear = nn.Linear(size, classes)

    def forward(self, features: Tensor, labels: Tensor | None) -> Tensor:
        return class_logit(self.classes(features))

    def classes(self, features: Tensor) -> Tensor:
        """Logits of the classes `[N, K]`, float32."""
        with torch.autocast(features.device.type, enabled=False):
            return F.linear(features.float(), self.linear.weight.float(), self.linear.bias.float())


class MinibatchDiscrimination(nn.Module):
    """How near each picture's features are to those of the others: `[N, size]` -> `[N, kernels]` (section 3.2).

    M = f T, `[N, kernels, DIMENSIONS]`; o(x_i)_b = sum over j of exp(-|M_ib - M_jb|_1). The picture itself counts 1, as
    in the paper. The batch as a whole is looked at: one whose pictures are all alike shows it in every picture.
    """

    def __init__(self, size: int, kernels: int) -> None:
        super().__init__()
        self.kernels = kernels
        self.project = nn.Linear(size, kernels * DIMENSIONS, bias=False)
        nn.init.normal_(self.project.weight, 0.0, 0.05)

    def forward(self, features: Tensor) -> Tensor:
        places = self.project(features).float().unflatten(1, (self.kernels, DIMENSIONS))  # [N, B, C]
        distances = (places[:, None] - gather(places)[None]).abs().sum(3)  # [N, N, B]; the others of all processes
        return torch.exp(-distances).sum(1)


class MinibatchHead(Head):
    """Minibatch discrimination beside the features, and another head on both."""

    def __init__(self, size: int, kernels: int, inner: Head) -> None:
        super().__init__()
        assert inner.size == size + kernels, f"the inner head takes {inner.size} features, not {size} + {kernels}"
        self.size = size
        self.near = MinibatchDiscrimination(size, kernels)
        self.inner = inner

    def forward(self, features: Tensor, labels: Tensor | None) -> Tensor:
        logits: Tensor = self.inner(torch.cat([features.float(), self.near(features)], dim=1), labels)
        return logits


class History(nn.Module):
    """The mean of all past values of the parameters of some networks, in buffers (historical averaging, section 3.3).

    `penalty` notes that a step is under way and `update` counts it. A step that is taken back takes its note back too,
    because that is a buffer.
    """

    def __init__(self, networks: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.means = nn.ModuleDict()
        for part, network in networks.items():
            own = nn.Module()
            for index, parameter in enumerate(network.parameters()):
                own.register_buffer(f"mean{index}", torch.zeros_like(parameter.detach(), dtype=torch.float32))
            own.register_buffer("steps", torch.zeros(()))
            own.register_buffer("pending", torch.zeros(()))
            self.means[part] = own

    def penalty(self, part: str, network: nn.Module) -> Tensor:
        """|theta - mean of its past values|^2, a scalar; 0 before the first step."""
        own = self.means[part]
        own.get_buffer("pending").fill_(1.0)
        begun = (own.get_buffer("steps") > 0).float()
        squares = [
            (parameter.float() - own.get_buffer(f"mean{index}")).square().sum()
            for index, parameter in enumerate(network.parameters())
        ]
        return torch.stack(squares).sum() * begun

    @torch.no_grad()
    def update(self, part: str, network: nn.Module) -> None:
        """Takes the present parameters into the mean, where a step was made."""
        own = self.means[part]
        pending, steps = own.get_buffer("pending"), own.get_buffer("steps")
        steps += pending
        share = pending / steps.clamp(min=1)
        for index, parameter in enumerate(network.parameters()):
            own.get_buffer(f"mean{index}").lerp_(parameter.float(), share)
        pending.zero_()
