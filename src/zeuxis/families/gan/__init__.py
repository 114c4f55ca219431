"""Generative adversarial networks (Goodfellow et al. 2014, arXiv 1406.2661)."""

from __future__ import annotations

from zeuxis.families.gan import dcgan, mlp, resnet
from zeuxis.families.gan.pair import NetworkPair

NETWORKS: dict[str, NetworkPair] = {
    "dcgan": NetworkPair(dcgan.DcganConfig, dcgan.Generator, dcgan.Discriminator),
    "mlp": NetworkPair(mlp.MlpConfig, mlp.Generator, mlp.Discriminator),
    "resnet": NetworkPair(resnet.ResnetConfig, resnet.Generator, resnet.Discriminator),
}
