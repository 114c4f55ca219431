"""Generative adversarial networks (Goodfellow et al. 2014, arXiv 1406.2661)."""

from __future__ import annotations

from zeuxis.families.gan import dcgan, mlp, r3gan, resnet, stylegan2
from zeuxis.families.gan.pair import NetworkPair

NETWORKS: dict[str, NetworkPair] = {
    "dcgan": NetworkPair(dcgan.DcganConfig, dcgan.Generator, dcgan.Discriminator),
    "mlp": NetworkPair(mlp.MlpConfig, mlp.Generator, mlp.Discriminator),
    "resnet": NetworkPair(resnet.ResnetConfig, resnet.Generator, resnet.Discriminator),
    "r3gan": NetworkPair(r3gan.R3ganConfig, r3gan.Generator, r3gan.Discriminator),
    "stylegan2": NetworkPair(stylegan2.Stylegan2Config, stylegan2.Generator, stylegan2.Discriminator),
}
