"""Complete settings by network and preset; the first network and each network's first preset are the defaults."""

from __future__ import annotations

from zeuxis.families.base import Preset

# fmt: off
PRESETS: dict[str, dict[str, Preset]] = {
    "dcgan": {
        "small": Preset(
            about="default on a CPU: relativistic loss with R1 and R2, no batch normalisation in the discriminator",
            settings={
                "network": {"latent": 64, "width": 32, "max_width": 256, "norm_generator": True, "norm_discriminator": False},
                "objective": {"loss": "relativistic", "gamma": 1.0, "gamma_end": 0.1},
                "training": {"batch": 64, "learning_rate": 1e-3, "beta1": 0.0, "beta2": 0.99, "kimg": 1000},
            },
        ),
        "tiny": Preset(
            about="seconds: for tests and for trying things",
            settings={
                "network": {"latent": 8, "width": 8, "max_width": 16, "norm_generator": False},
                "objective": {"loss": "relativistic", "gamma": 1.0, "gamma_end": 0.1},
                "training": {"batch": 8, "learning_rate": 1e-3, "beta1": 0.0, "beta2": 0.99, "kimg": 1},
            },
        ),
        "radford": Preset(
            about="as in the paper: batch normalisation in both networks, non-saturating loss, Adam 2e-4, beta1 0.5",
            settings={
                "network": {"latent": 100, "width": 128, "max_width": 1024, "norm_generator": True, "norm_discriminator": True, "uniform": True},
                "objective": {"loss": "non-saturating", "gamma": 0.0, "gamma_end": 0.0},
                "training": {"batch": 128, "learning_rate": 2e-4, "learning_rate_end": 1.0, "beta1": 0.5, "beta2": 0.999, "ema": 0.0, "kimg": 1000},
            },
        ),
    },
    "mlp": {
        "article": Preset(
            about="the article's 100-256-784 generator and 784-256-1 discriminator, non-saturating loss, Adam 2e-4, beta1 0.5",
            settings={
                "network": {"latent": 100, "hidden": 256, "layers": 1},
                "objective": {"loss": "non-saturating", "gamma": 0.0, "gamma_end": 0.0},
                "training": {"batch": 64, "learning_rate": 2e-4, "learning_rate_end": 1.0, "beta1": 0.5, "beta2": 0.999, "kimg": 3000},
            },
        ),
        "tiny": Preset(
            about="seconds: for tests and for trying things",
            settings={
                "network": {"latent": 8, "hidden": 16, "layers": 1},
                "objective": {"loss": "non-saturating", "gamma": 0.1, "gamma_end": 0.1},
                "training": {"batch": 8, "learning_rate": 1e-3, "beta1": 0.5, "beta2": 0.99, "kimg": 1},
            },
        ),
    },
    "resnet": {
        "small": Preset(
            about="for a CPU, pictures of about 32 pixels: residual blocks, relativistic loss, R1 and R2 by finite differences",
            settings={
                "network": {"latent": 64, "width": 32, "max_width": 128, "blocks": 1, "patch": 2},
                "objective": {"loss": "relativistic", "penalty": "r1+r2 finite", "gamma": 1.0, "gamma_end": 0.1, "step": 0.05},
                "training": {"batch": 64, "learning_rate": 1e-3, "beta1": 0.0, "beta2": 0.99, "kimg": 1000},
            },
        ),
        "tiny": Preset(
            about="seconds: for tests and for trying things",
            settings={
                "network": {"latent": 8, "width": 8, "max_width": 16, "blocks": 1, "patch": 2},
                "objective": {"loss": "relativistic", "penalty": "r1+r2 finite", "gamma": 1.0, "gamma_end": 0.1},
                "training": {"batch": 8, "learning_rate": 1e-3, "beta1": 0.0, "beta2": 0.99, "kimg": 1},
            },
        ),
    },
}
# fmt: on
