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
                "objective": {"likelihood": "gaussian", "prior": "mixture"},
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
    "dlgm": {
        "small": Preset(
            about="two Gaussian layers with deterministic ones between them, rank-1 posteriors (Rezende et al. 2014)",
            settings={
                "network": {"latent": 32, "layers": 2, "hidden": 400, "covariance": "rank-1"},
                "objective": {"likelihood": "gaussian", "prior": "mixture"},
                "training": {"batch": 64, "learning_rate": 1e-3, "warmup": 0.02, "ema": 0.02, "kimg": 1000},
            },
        ),
        "tiny": Preset(
            about="seconds: for tests and for trying things",
            settings={
                "network": {"latent": 3, "layers": 2, "hidden": 8, "covariance": "rank-1"},
                "objective": {"likelihood": "gaussian"},
                "training": {"batch": 8, "learning_rate": 1e-3, "kimg": 1},
            },
        ),
    },
    "ladder": {
        "small": Preset(
            about="a deep hierarchy from the top down, logistic mixture: the best likelihood here, minutes on a CPU",
            settings={
                "network": {"width": 64, "latent": 8, "top_blocks": 2, "blocks": 3, "encoder_blocks": 1, "bottleneck": 0.5, "patch": 2},
                "objective": {"likelihood": "logistic-mixture", "components": 5},
                "training": {"batch": 64, "learning_rate": 1e-3, "warmup": 0.02, "beta2": 0.99, "clip_norm": 200, "skip_norm": 8, "ema": 0.02, "kimg": 1000},
            },
        ),
        "tiny": Preset(
            about="seconds: for tests and for trying things",
            settings={
                "network": {"width": 16, "latent": 2, "top_blocks": 2, "blocks": 1, "encoder_blocks": 1, "bottleneck": 0.5, "patch": 2},
                "objective": {"likelihood": "gaussian"},
                "training": {"batch": 8, "learning_rate": 1e-3, "kimg": 1},
            },
        ),
    },
    "vq": {
        "small": Preset(
            about="a grid of tokens out of a learned codebook, with moving averages and restarts",
            settings={
                "network": {"codes": 512, "factor": 4, "width": 64, "max_width": 128, "blocks": 1, "code_channels": 16},
                "objective": {"likelihood": "gaussian", "commitment": 0.25, "prior": "mixture"},
                "training": {"batch": 64, "learning_rate": 1e-3, "warmup": 0.02, "ema": 0.02, "kimg": 500},
            },
        ),
        "tiny": Preset(
            about="seconds: for tests and for trying things",
            settings={
                "network": {"codes": 16, "factor": 4, "width": 8, "max_width": 8, "blocks": 1, "code_channels": 3},
                "objective": {"likelihood": "gaussian"},
                "training": {"batch": 8, "learning_rate": 1e-3, "kimg": 1},
            },
        ),
    },
    "fsq": {
        "small": Preset(
            about="a grid of tokens out of rounded channels: no codebook to learn or to lose",
            settings={
                "network": {"codes": 512, "factor": 4, "width": 64, "max_width": 128, "blocks": 1},
                "objective": {"likelihood": "gaussian", "code_entropy": 1.0, "prior": "mixture"},
                "training": {"batch": 64, "learning_rate": 1e-3, "warmup": 0.02, "ema": 0.02, "kimg": 500},
            },
        ),
        "tiny": Preset(
            about="seconds: for tests and for trying things",
            settings={
                "network": {"codes": 25, "factor": 4, "width": 8, "max_width": 8, "blocks": 1},
                "objective": {"likelihood": "gaussian"},
                "training": {"batch": 8, "learning_rate": 1e-3, "kimg": 1},
            },
        ),
    },
}
# fmt: on
