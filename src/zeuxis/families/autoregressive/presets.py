"""Complete settings by network and preset; the first network and each network's first preset are the defaults."""

from __future__ import annotations

from zeuxis.families.base import Preset

# fmt: off
PRESETS: dict[str, dict[str, Preset]] = {
    "tokens": {
        "small": Preset(
            about="default: an FSQ codec, then a recurrent prior whose state does not grow",
            settings={
                "network": {"quantiser": "fsq", "codes": 512, "factor": 0, "codec_width": 32, "codec_max_width": 64, "codec_blocks": 1,
                            "width": 128, "layers": 3, "expand": 1},
                "objective": {"codec_share": 0.3, "label_drop": 0.1, "token_drop": 0.1},
                "training": {"batch": 64, "learning_rate": 2e-3, "warmup": 0.02, "beta2": 0.95, "ema": 0.02, "kimg": 1000},
            },
        ),
        "vq": Preset(
            about="the same with a learned codebook",
            settings={
                "network": {"quantiser": "vq", "codes": 512, "factor": 0, "codec_width": 32, "codec_max_width": 64, "codec_blocks": 1,
                            "width": 128, "layers": 3, "expand": 1},
                "objective": {"codec_share": 0.3, "label_drop": 0.1, "token_drop": 0.1},
                "training": {"batch": 64, "learning_rate": 2e-3, "warmup": 0.02, "beta2": 0.95, "ema": 0.02, "kimg": 1000},
            },
        ),
        "tiny": Preset(
            about="seconds: for tests and for trying things",
            settings={
                "network": {"quantiser": "fsq", "codes": 25, "factor": 4, "codec_width": 8, "codec_max_width": 8, "codec_blocks": 0,
                            "width": 16, "layers": 1, "expand": 1},
                "objective": {"codec_share": 0.5, "label_drop": 0.1, "token_drop": 0.1},
                "training": {"batch": 8, "learning_rate": 3e-3, "kimg": 1},
            },
        ),
    },
    "pixelcnn": {
        "small": Preset(
            about="gated PixelCNN, discretised logistic mixture: the exact likelihood of 8-bit pictures",
            settings={
                "network": {"width": 48, "layers": 8, "kernel": 3, "dilation": 4},
                "objective": {"likelihood": "logistic-mixture", "levels": 256, "components": 10},
                "training": {"batch": 32, "learning_rate": 2e-3, "warmup": 0.02, "ema": 0.02, "kimg": 500},
            },
        ),
        "binary": Preset(
            about="the same on black and white: pictures are cut at half brightness",
            settings={
                "network": {"width": 48, "layers": 8, "kernel": 3, "dilation": 4},
                "objective": {"likelihood": "categorical", "levels": 2, "components": 10},
                "training": {"batch": 32, "learning_rate": 2e-3, "warmup": 0.02, "ema": 0.02, "kimg": 500},
            },
        ),
        "tiny": Preset(
            about="seconds: for tests and for trying things",
            settings={
                "network": {"width": 8, "layers": 2, "kernel": 3, "dilation": 2},
                "objective": {"likelihood": "logistic-mixture", "levels": 256, "components": 3},
                "training": {"batch": 8, "learning_rate": 3e-3, "kimg": 1},
            },
        ),
    },
    "wavenet": {
        "small": Preset(
            about="WaveNet over the raster sequence: dilated causal convolutions, skips, cached queues",
            settings={
                "network": {"width": 48, "skip": 64, "depth": 8, "stacks": 2},
                "objective": {"likelihood": "logistic-mixture", "levels": 256, "components": 10},
                "training": {"batch": 32, "learning_rate": 2e-3, "warmup": 0.02, "ema": 0.02, "kimg": 500},
            },
        ),
        "tiny": Preset(
            about="seconds: for tests and for trying things",
            settings={
                "network": {"width": 8, "skip": 8, "depth": 3, "stacks": 1},
                "objective": {"likelihood": "categorical", "levels": 8, "components": 3},
                "training": {"batch": 8, "learning_rate": 3e-3, "kimg": 1},
            },
        ),
    },
    "pixelrnn": {
        "row": Preset(
            about="Row LSTM: a memory that sweeps down the rows",
            settings={
                "network": {"sweep": "row", "width": 48, "layers": 4},
                "objective": {"likelihood": "logistic-mixture", "levels": 256, "components": 10},
                "training": {"batch": 32, "learning_rate": 2e-3, "warmup": 0.02, "ema": 0.02, "kimg": 300},
            },
        ),
        "diagonal": Preset(
            about="Diagonal BiLSTM: two memories along the diagonals, which miss no pixel before",
            settings={
                "network": {"sweep": "diagonal", "width": 48, "layers": 3},
                "objective": {"likelihood": "logistic-mixture", "levels": 256, "components": 10},
                "training": {"batch": 32, "learning_rate": 2e-3, "warmup": 0.02, "ema": 0.02, "kimg": 300},
            },
        ),
        "tiny": Preset(
            about="seconds: for tests and for trying things",
            settings={
                "network": {"sweep": "row", "width": 8, "layers": 1},
                "objective": {"likelihood": "logistic-mixture", "levels": 256, "components": 3},
                "training": {"batch": 8, "learning_rate": 3e-3, "kimg": 1},
            },
        ),
    },
    "convlstm": {
        "small": Preset(
            about="clips with one future: two convolutional LSTMs on patches, good predictions within an hour on a CPU",
            settings={
                "network": {"width": 48, "layers": 2, "kernel": 3, "moves": 2},
                "objective": {"scheduled": 0.8},
                "training": {"batch": 4, "learning_rate": 2e-3, "warmup": 0.02, "ema": 0.02, "kimg": 50},
            },
        ),
        "tiny": Preset(
            about="seconds: for tests and for trying things",
            settings={
                "network": {"width": 8, "layers": 1, "kernel": 3, "moves": 1},
                "objective": {"scheduled": 0.5, "start_latent": 4, "start_width": 8},
                "training": {"batch": 8, "learning_rate": 3e-3, "kimg": 1},
            },
        ),
    },
    "predrnn": {
        "small": Preset(
            about="clips with one future: a second memory runs through all layers; slower and better per clip seen",
            settings={
                "network": {"width": 32, "layers": 2, "kernel": 3, "moves": 2},
                "objective": {"scheduled": 0.8, "reverse": False},
                "training": {"batch": 4, "learning_rate": 2e-3, "warmup": 0.02, "ema": 0.02, "kimg": 50},
            },
        ),
        "tiny": Preset(
            about="seconds: for tests and for trying things",
            settings={
                "network": {"width": 8, "layers": 2, "kernel": 3},
                "objective": {"scheduled": 0.5, "start_latent": 4, "start_width": 8},
                "training": {"batch": 8, "learning_rate": 3e-3, "kimg": 1},
            },
        ),
    },
    "svg": {
        "small": Preset(
            about="clips with many futures: a latent per frame with a learned prior, another future for every seed",
            settings={
                "network": {"width": 40, "layers": 2, "kernel": 3, "moves": 2, "latent": 8, "hidden": 96},
                "objective": {"sigma": 0.5, "scheduled": 0.5},
                "training": {"batch": 8, "learning_rate": 2e-3, "warmup": 0.02, "ema": 0.02, "kimg": 50},
            },
        ),
        "tiny": Preset(
            about="seconds: for tests and for trying things",
            settings={
                "network": {"width": 8, "layers": 1, "kernel": 3, "moves": 1, "latent": 2, "hidden": 8},
                "objective": {"sigma": 0.5, "scheduled": 0.5, "start_latent": 4, "start_width": 8},
                "training": {"batch": 8, "learning_rate": 3e-3, "kimg": 1},
            },
        ),
    },
}
# fmt: on
