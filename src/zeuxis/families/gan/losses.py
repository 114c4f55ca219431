"""Adversarial losses and gradient penalties as pure functions of logits and gradients, each with its paper."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from zeuxis.nn.kernels import input_gradients_only

# `[N]` of (logits of real `[N]`, logits of generated `[N]`) pictures; minimised.
Loss = Callable[[Tensor, Tensor], Tensor]
Critic = Callable[[Tensor], Tensor]  # pictures [N, C, H, W] -> logits [N]


def minimax_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """-log s(D(x)) - log(1 - s(D(G(z)))) (Goodfellow et al. 2014, arXiv 1406.2661, Eq. 1)."""
    return F.softplus(-real) + F.softplus(fake)


def minimax_generator(real: Tensor, fake: Tensor) -> Tensor:
    """log(1 - s(D(G(z)))) (Goodfellow et al. 2014, Eq. 1)."""
    return -F.softplus(fake)


def non_saturating_generator(real: Tensor, fake: Tensor) -> Tensor:
    """-log s(D(G(z))) (Goodfellow et al. 2014, section 3)."""
    return F.softplus(-fake)


def least_squares_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """(D(x) - 1)^2 / 2 + D(G(z))^2 / 2 (Mao et al. 2016, arXiv 1611.04076, Eq. 9: labels 1 and 0)."""
    return 0.5 * (real - 1).square() + 0.5 * fake.square()


def least_squares_generator(real: Tensor, fake: Tensor) -> Tensor:
    """(D(G(z)) - 1)^2 / 2 (Mao et al. 2016, Eq. 9)."""
    return 0.5 * (fake - 1).square()


def hinge_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """max(0, 1 - D(x)) + max(0, 1 + D(G(z))) (Lim & Ye 2017, arXiv 1705.02894; Miyato et al. 2018, Eq. 16)."""
    return F.relu(1 - real) + F.relu(1 + fake)


def wasserstein_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """D(G(z)) - D(x) (Arjovsky et al. 2017, arXiv 1701.07875, Eq. 2): needs a penalty that keeps D Lipschitz."""
    return fake - real


def mean_logit_generator(real: Tensor, fake: Tensor) -> Tensor:
    """-D(G(z)), the generator's side of the hinge and the Wasserstein loss."""
    return -fake


def relativistic_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """-log s(D(x) - D(G(z))), pairwise (Jolicoeur-Martineau 2018; Huang et al. 2024, arXiv 2501.05441, Eq. 2)."""
    return F.softplus(fake - real)


def relativistic_generator(real: Tensor, fake: Tensor) -> Tensor:
    """-log s(D(G(z)) - D(x)), pairwise (Huang et al. 2024, Eq. 2)."""
    return F.softplus(real - fake)


@dataclass(frozen=True)
class Adversarial:
    """One line of the `LOSSES` table; a `relativistic` generator loss looks at real logits too."""

    discriminator: Loss
    generator: Loss
    relativistic: bool = False


LOSSES: dict[str, Adversarial] = {
    "relativistic": Adversarial(relativistic_discriminator, relativistic_generator, relativistic=True),
    "non-saturating": Adversarial(minimax_discriminator, non_saturating_generator),
    "minimax": Adversarial(minimax_discriminator, minimax_generator),
    "least-squares": Adversarial(least_squares_discriminator, least_squares_generator),
    "hinge": Adversarial(hinge_discriminator, mean_logit_generator),
    "wasserstein": Adversarial(wasserstein_discriminator, mean_logit_generator),
}


def squared_gradients(logits: Tensor, images: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """|grad_x D(x)|^2 summed over each picture `[N]`, for each of `images`, differentiable in D's parameters.

    `logits` `[...]` were computed from `images`, one logit per picture: R1 at real pictures (Mescheder et al. 2018,
    arXiv 1801.04406, Eq. 9), R2 at generated ones.
    """
    with input_gradients_only():
        gradients = torch.autograd.grad(logits.sum(), images, create_graph=True)
    return tuple(gradient.float().square().sum(dim=(1, 2, 3)) for gradient in gradients)


def squared_differences(there: Tensor, here: Tensor, step: float) -> Tensor:
    """((D(x + s e) - D(x)) / s)^2 `[N]` of logits at moved and unmoved pictures, s = `step`.

    With e standard normal in every value its expectation is |grad_x D(x)|^2 + O(s^2): R1 and R2 without a second
    backward pass. Logits must be float32: the difference is small.
    """
    return ((there.float() - here.float()) / step).square()


def gradient_penalty(critic: Critic, real: Tensor, fake: Tensor, mix: Tensor) -> Tensor:
    """(|grad D(u x + (1 - u) G(z))| - 1)^2 `[N]` with u = `mix` `[N]` in [0, 1] (Gulrajani et al. 2017, Eq. 3)."""
    weight = mix.to(real)[:, None, None, None]
    between = (weight * real + (1 - weight) * fake).detach().requires_grad_(True)
    (square,) = squared_gradients(critic(between), (between,))
    return (square.add(1e-12).sqrt() - 1).square()


def path_lengths(images: Tensor, w: Tensor, direction: Tensor) -> Tensor:
    """|J^T y| `[N]`: how far pictures `[N, C, H, W]` move for a step in w `[N, L, W]`, along y = `direction` (standard
    normal, as large as the pictures), differentiable (Karras et al. 2020, arXiv 1912.04958, Eq. 4).

    The mean is over levels, and y is scaled by one over the square root of the number of pixels, as the paper's
    section 3.2 and its weights assume.
    """
    scaled = direction * (images.shape[2] * images.shape[3]) ** -0.5
    with input_gradients_only():
        (gradient,) = torch.autograd.grad((images * scaled).sum(), w, create_graph=True)
    return gradient.float().square().sum(2).mean(1).add(1e-12).sqrt()
