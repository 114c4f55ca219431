"""Autoregressive networks: a picture, its tokens or the frames of a clip as a sequence, each given those before.

Three kinds of networks, each with its own method (`method.py` says what a method owes the family): `pixels.py` draws
pictures value by value, `tokens.py` tokens of a codec, `frames.py` frames of clips with one future and
`futures.py` with many. A new network of a kind is a file,
a line in `NETWORKS` and its presets; a new kind is a subclass of `Method` beside them, and nothing else moves.
"""

from __future__ import annotations

from zeuxis.families.autoregressive import convlstm, pixelcnn, pixelrnn, predrnn, svg, tokens, wavenet
from zeuxis.families.autoregressive.frames import Frames
from zeuxis.families.autoregressive.futures import Futures
from zeuxis.families.autoregressive.method import Entry
from zeuxis.families.autoregressive.pixels import Pixels

NETWORKS: dict[str, Entry] = {
    "tokens": Entry(tokens.TokensConfig, tokens.Tokens, tokens.make_prior),
    "pixelcnn": Entry(pixelcnn.PixelCNNConfig, Pixels, pixelcnn.PixelCNN),
    "wavenet": Entry(wavenet.WaveNetConfig, Pixels, wavenet.WaveNet),
    "pixelrnn": Entry(pixelrnn.PixelRNNConfig, Pixels, pixelrnn.PixelRNN),
    "convlstm": Entry(convlstm.ConvLSTMConfig, Frames, convlstm.ConvLSTM),
    "predrnn": Entry(predrnn.PredRNNConfig, Frames, predrnn.PredRNN),
    "svg": Entry(svg.SVGConfig, Futures, svg.SVG),
}
