"""Variational autoencoders (Kingma & Welling 2013, arXiv 1312.6114)."""

from __future__ import annotations

from zeuxis.families.vae import conv, mlp
from zeuxis.families.vae.pair import NetworkPair

NETWORKS: dict[str, NetworkPair] = {
    "conv": NetworkPair(conv.ConvConfig, conv.Encoder, conv.Decoder),
    "mlp": NetworkPair(mlp.MlpConfig, mlp.Encoder, mlp.Decoder),
}
