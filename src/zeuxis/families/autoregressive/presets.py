"""Complete settings by network and preset; the first network and each network's first preset are the defaults."""

from __future__ import annotations

from zeuxis.families.base import Preset

# fmt: off
PRESETS: dict[str, dict[str, Preset]] = {
    "tokens": {
        "small": Preset(
            about="default: an FSQ codec and a recurrent prior; hundreds of pictures a second on a CPU",
            settings={
                "network": {"codec": {"quantiser": "fsq", "codes": 512, "factor": 0, "width": 32, "max_width": 64, "blocks": 1},
                            "width": 128, "layers": 4, "expand": 2},
                "objective": {"codec_share": 0.3, "label_drop": 0.1},
                "training": {"batch": 64, "learning_rate": 2e-3, "warmup": 0.02, "beta2": 0.95, "ema": 0.02, "kimg": 1000},
            },
        ),
        "vq": Preset(
            about="the same with a learned codebook",
            settings={
                "network": {"codec": {"quantiser": "vq", "codes": 512, "factor": 0, "width": 32, "max_width": 64, "blocks": 1},
                            "width": 128, "layers": 4, "expand": 2},
                "objective": {"codec_share": 0.3, "label_drop": 0.1},
                "training": {"batch": 64, "learning_rate": 2e-3, "warmup": 0.02, "beta2": 0.95, "ema": 0.02, "kimg": 1000},
            },
        ),
        "tiny": Preset(
            about="seconds: for tests and for trying things",
            settings={
                "network": {"codec": {"quantiser": "fsq", "codes": 25, "factor": 4, "width": 8, "max_width": 8, "blocks": 0},
                            "width": 16, "layers": 1, "expand": 1},
                "objective": {"codec_share": 0.5, "label_drop": 0.1},
                "training": {"batch": 8, "learning_rate": 3e-3, "kimg": 1},
            },
        ),
    },
    "pixelcnn": {
        "small": Preset(
            about="gated PixelCNN, discretised logistic mixture: the likelihood of 8-bit pictures, minutes on a CPU",
            settings={
                "network": {"width": 48, "layers": 8, "kernel": 3},
                "objective": {"likelihood": "logistic", "levels": 256, "mixtures": 10},
                "training": {"batch": 32, "learning_rate": 2e-3, "warmup": 0.02, "ema": 0.02, "kimg": 500},
            },
        ),
        "binary": Preset(
            about="the same on black and white: pictures are cut at half brightness",
            settings={
                "network": {"width": 48, "layers": 8, "kernel": 3},
                "objective": {"likelihood": "categorical", "levels": 2, "mixtures": 10},
                "training": {"batch": 32, "learning_rate": 2e-3, "warmup": 0.02, "ema": 0.02, "kimg": 500},
            },
        ),
        "tiny": Preset(
            about="seconds: for tests and for trying things",
            settings={
                "network": {"width": 8, "layers": 2, "kernel": 3},
                "objective": {"likelihood": "logistic", "levels": 256, "mixtures": 3},
                "training": {"batch": 8, "learning_rate": 3e-3, "kimg": 1},
            },
        ),
    },
}
# fmt: on
