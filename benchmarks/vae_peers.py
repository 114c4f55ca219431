"""pythae's networks and models, trained by a plain loop over batches that lie ready: nothing that its own trainer does
beside the step slows it down here. See bench_vae_mlp.py for how to install pythae."""

from __future__ import annotations

import math
import time
from typing import Any, cast

import torch
from torch import Tensor, nn

MODELS = ("VAE", "IWAE", "HVAE")


def pythae_resnet(kind: str, latent: int, loss: str) -> nn.Module:
    """pythae's VAE, IWAE or HVAE with its own ResNet encoder and decoder for 28x28 grey pictures in [0, 1]."""
    import pythae.models as models
    from pythae.models.nn.benchmarks.mnist import Decoder_ResNet_AE_MNIST, Encoder_ResNet_VAE_MNIST

    more: dict[str, Any] = {"IWAE": {"number_samples": 5}, "HVAE": {"n_lf": 1, "eps_lf": 0.001}}.get(kind, {})
    config = getattr(models, f"{kind}Config")(
        input_dim=(1, 28, 28), latent_dim=latent, reconstruction_loss=loss, **more
    )
    parts = {"encoder": Encoder_ResNet_VAE_MNIST(config), "decoder": Decoder_ResNet_AE_MNIST(config)}
    if gives_logits(kind, loss):
        for module in list(parts["decoder"].modules()):
            for name, child in module.named_children():
                if isinstance(child, nn.Sigmoid):
                    setattr(module, name, nn.Identity())
    model = getattr(models, kind)(model_config=config, **parts)
    model.gives_logits = gives_logits(kind, loss)
    return cast(nn.Module, model)


def gives_logits(kind: str, loss: str) -> bool:
    """pythae's HVAE takes its decoder's output for logits, the others take it for probabilities."""
    return kind == "HVAE" and loss == "bce"


def train(model: nn.Module, pictures: Tensor, *, images: int | None = None, seconds: float | None = None,
          batch: int = 64) -> int:  # fmt: skip
    """Adam 1e-3 on uint8 `[N, 1, 28, 28]` until so many images were shown or the time is over; returns how many."""
    from pythae.data.datasets import DatasetOutput

    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    model.train()
    started, seen = time.perf_counter(), 0
    while True:
        for positions in torch.randperm(len(pictures)).split(batch):
            if (images is not None and seen >= images) or (
                seconds is not None and time.perf_counter() - started > seconds
            ):
                model.eval()
                return seen
            loss = model(DatasetOutput(data=pictures[positions].float() / 255)).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            seen += len(positions)


@torch.no_grad()
def log_likelihood(model: Any, pictures: Tensor, samples: int) -> Tensor:
    """The importance-weighted bound of `bernoulli` pictures uint8 `[N, 1, 28, 28]` with the encoder's normal as
    proposal, `[N]` nats: the same estimator for every model here, ours and theirs."""
    x = pictures.float() / 255
    encoded = model.encoder(x)
    mean, log_variance = encoded.embedding, encoded.log_covariance
    weights = []
    for _ in range(samples):
        noise = torch.randn_like(mean)
        z = mean + torch.exp(0.5 * log_variance) * noise
        output = model.decoder(z).reconstruction
        output = torch.sigmoid(output) if model.gives_logits else output
        fit = -nn.functional.binary_cross_entropy(output, x, reduction="none").sum(dim=(1, 2, 3))
        weights.append(fit + 0.5 * (noise.square() + log_variance - z.square()).sum(1))
    return torch.logsumexp(torch.stack(weights), dim=0) - math.log(samples)
