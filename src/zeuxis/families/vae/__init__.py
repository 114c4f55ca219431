"""Variational autoencoders (Kingma & Welling 2013, arXiv 1312.6114)."""

from __future__ import annotations

from zeuxis.families.vae import codecs, conv, dlgm, ladder, mlp
from zeuxis.families.vae.pair import Network, NetworkCodec, NetworkLadder, NetworkPair

NETWORKS: dict[str, Network] = {
    "conv": NetworkPair(conv.ConvConfig, conv.Encoder, conv.Decoder),
    "mlp": NetworkPair(mlp.MlpConfig, mlp.Encoder, mlp.Decoder),
    "dlgm": NetworkPair(dlgm.DlgmConfig, dlgm.Encoder, dlgm.Decoder),
    "ladder": NetworkLadder(ladder.LadderConfig, ladder.Encoder, ladder.Decoder),
    "vq": NetworkCodec(codecs.VQConfig, codecs.encoder, codecs.quantiser, codecs.decoder),
    "fsq": NetworkCodec(codecs.FSQConfig, codecs.encoder, codecs.quantiser, codecs.decoder),
}
