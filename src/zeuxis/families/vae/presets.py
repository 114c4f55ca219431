"""Complete settings by network and preset; the first network and each network's first preset are the defaults."""

from __future__ import annotations

from zeuxis.families.base import Preset

# fmt: off
PRESETS: dict[str, dict[str, Preset]] = {
    "conv": {
        "small": Preset(
            about="default: residual 3x3 blocks, Gaussian likelihood with a learned scale",
            settings={
                "network": {"latent": 64, "width": 32, "max_width": 128, "blocks": 1},
                "objective": {"likelihood": "gaussian"},
                "training": {"batch": 64, "learning_rate": 1e-3, "warmup": 0.02, "ema": 0.02, "kimg": 1000},
            },
        ),
        "tiny": Preset(
            about="seconds: for tests and for trying things",
            settings={
                "network": {"latent": 4, "width": 8, "max_width": 16, "blocks": 1},
                "objective": {"likelihood": "gaussian"},
                "training": {"batch": 8, "learning_rate": 1e-3, "kimg": 1},
            },
        ),
    },
    "mlp": {
        "article": Preset(
            about="the article's 784-256 encoder, 256 latents and 256-784 decoder, Bernoulli likelihood, Adam 1e-3",
            settings={
                "network": {"latent": 256, "hidden": 256, "layers": 1},
                "objective": {"likelihood": "bernoulli"},
                "training": {"batch": 64, "learning_rate": 1e-3, "learning_rate_end": 1.0, "kimg": 1200},
            },
        ),
        "tiny": Preset(
            about="seconds: for tests and for trying things",
            settings={
                "network": {"latent": 4, "hidden": 16, "layers": 1},
                "objective": {"likelihood": "bernoulli"},
                "training": {"batch": 8, "learning_rate": 1e-3, "kimg": 1},
            },
        ),
    },
}
# fmt: on
