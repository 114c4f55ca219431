"""Autoregressive networks: a picture, its tokens or the frames of a clip as a sequence, each given those before.

Three kinds of networks, each with its own method (`method.py` says what a method owes the family): `pixels.py` draws
pictures value by value, `tokens.py` tokens of a codec, `frames.py` frames of clips. A new network of a kind is a file,
a line in `NETWORKS` and its presets; a new kind is a subclass of `Method` beside them, and nothing else moves.
"""

from __future__ import annotations

from zeuxis.families.autoregressive import pixelcnn, tokens
from zeuxis.families.autoregressive.method import Entry
from zeuxis.families.autoregressive.pixels import Pixels

NETWORKS: dict[str, Entry] = {
    "tokens": Entry(tokens.TokensConfig, tokens.Tokens, tokens.make_prior),
    "pixelcnn": Entry(pixelcnn.PixelCNNConfig, Pixels, pixelcnn.PixelCNN),
}
