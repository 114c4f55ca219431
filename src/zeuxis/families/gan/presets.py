"""Complete settings by network and preset; the first network and each network's first preset are the defaults."""

from __future__ import annotations

from zeuxis.families.base import Preset

# fmt: off
PRESETS: dict[str, dict[str, Preset]] = {
    "dcgan": {
        "small": Preset(
            about="small and quick: relativistic loss with R1 and R2, no batch normalisation in the discriminator",
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
                "network": {"latent": 64, "width": 16, "max_width": 128, "blocks": 1, "patch": 2},
                "objective": {"loss": "relativistic", "penalty": "r1+r2 finite", "gamma": 0.5, "gamma_end": 0.1, "step": 0.05},
                "training": {"batch": 32, "learning_rate": 1.5e-3, "warmup": 0.02, "beta1": 0.0, "beta2": 0.99, "clip_update": 1.0, "ema": 0.06, "kimg": 1000},
            },
        ),
        "medium": Preset(
            about="for a CPU and an hour, pictures of 64 pixels and more: as small, twice as wide",
            settings={
                "network": {"latent": 64, "width": 32, "max_width": 256, "blocks": 1, "patch": 2},
                "objective": {"loss": "relativistic", "penalty": "r1+r2 finite", "gamma": 1.0, "gamma_end": 0.1, "step": 0.05},
                "training": {"batch": 32, "learning_rate": 1e-3, "warmup": 0.02, "beta1": 0.0, "beta2": 0.99, "clip_update": 1.0, "ema": 0.06, "kimg": 2000},
            },
        ),
        "tiny": Preset(
            about="seconds: for tests and for trying things",
            settings={
                "network": {"latent": 8, "width": 8, "max_width": 16, "blocks": 1, "patch": 2},
                "objective": {"loss": "relativistic", "penalty": "r1+r2 finite", "gamma": 0.3, "gamma_end": 0.1},
                "training": {"batch": 8, "learning_rate": 1e-3, "beta1": 0.0, "beta2": 0.99, "kimg": 1},
            },
        ),
    },
    "r3gan": {
        "small": Preset(
            about="a sixth to a third of the paper's width, for a GPU and hours: relativistic loss, exact R1 and R2",
            settings={
                "network": {"latent": 64, "width": 128, "max_width": 256, "blocks": 2},
                "objective": {"loss": "relativistic", "penalty": "r1+r2", "gamma": 1.0, "gamma_end": 0.1},
                "training": {"batch": 128, "learning_rate": 4e-4, "learning_rate_end": 0.25, "beta1": 0.0, "beta2": 0.99, "warmup": 0.01, "kimg": 4000},
            },
        ),
        "tiny": Preset(
            about="seconds: for tests and for trying things",
            settings={
                "network": {"latent": 8, "width": 8, "max_width": 8, "blocks": 1, "group_width": 4},
                "objective": {"loss": "relativistic", "penalty": "r1+r2", "gamma": 1.0, "gamma_end": 0.1},
                "training": {"batch": 8, "learning_rate": 1e-3, "beta1": 0.0, "beta2": 0.99, "kimg": 1},
            },
        ),
        "cifar10": Preset(
            about="as in the paper for 32 pixels: 768 channels, batch 512, 250 million images, augmentation up to 0.55",
            settings={
                "network": {"latent": 64, "width": 768, "max_width": 768, "blocks": 2},
                "objective": {"loss": "relativistic", "penalty": "r1+r2", "gamma": 0.05, "gamma_end": 0.005},
                "augment": {"probability": 0.55, "ramp": True},
                "training": {"batch": 512, "learning_rate": 2e-4, "learning_rate_end": 0.25, "beta1": 0.0, "beta2": 0.99, "ema": 0.02, "kimg": 250000},
            },
        ),
        "stacked-mnist": Preset(
            about="as in the paper for 1,000 modes: 768 channels, batch 512, 10 million images, gamma from 1 to 0.1",
            settings={
                "network": {"latent": 64, "width": 768, "max_width": 768, "blocks": 2},
                "objective": {"loss": "relativistic", "penalty": "r1+r2", "gamma": 1.0, "gamma_end": 0.1},
                "training": {"batch": 512, "learning_rate": 2e-4, "learning_rate_end": 1.0, "beta1": 0.0, "beta2": 0.99, "ema": 0.05, "kimg": 10000},
            },
        ),
        "ffhq64": Preset(
            about="as in the paper for 64 pixels: 384 to 768 channels, batch 256, 100 million images, gamma from 2 to 0.2",
            settings={
                "network": {"latent": 64, "width": 384, "max_width": 768, "blocks": 2},
                "objective": {"loss": "relativistic", "penalty": "r1+r2", "gamma": 2.0, "gamma_end": 0.2},
                "augment": {"probability": 0.3, "ramp": True},
                "training": {"batch": 256, "learning_rate": 2e-4, "learning_rate_end": 0.25, "beta1": 0.0, "beta2": 0.99, "ema": 0.005, "kimg": 100000},
            },
        ),
        "ffhq256": Preset(
            about="as in the paper for 256 pixels: 96 to 768 channels, batch 256, 200 million images, gamma from 150 to 15",
            settings={
                "network": {"latent": 64, "width": 96, "max_width": 768, "blocks": 2},
                "objective": {"loss": "relativistic", "penalty": "r1+r2", "gamma": 150.0, "gamma_end": 15.0},
                "augment": {"probability": 0.3, "ramp": True},
                "training": {"batch": 256, "learning_rate": 2e-4, "learning_rate_end": 0.25, "beta1": 0.0, "beta2": 0.99, "ema": 0.0025, "kimg": 200000},
            },
        ),
    },
    "stylegan2": {
        "small": Preset(
            about="narrow, for pictures of about 32 pixels: 128-dimensional w, style mixing, path length, lazy R1",
            settings={
                "network": {"latent": 128, "style": 128, "mapping": 2, "width": 16, "max_width": 64},
                "objective": {"loss": "non-saturating", "penalty": "r1", "gamma": 1.0, "gamma_end": 1.0, "interval": 16},
                "training": {"batch": 32, "learning_rate": 2.5e-3, "learning_rate_end": 0.1, "beta1": 0.0, "beta2": 0.99, "kimg": 1000},
            },
        ),
        "tiny": Preset(
            about="seconds: for tests and for trying things",
            settings={
                "network": {"latent": 8, "style": 8, "mapping": 1, "width": 4, "max_width": 8},
                "objective": {"loss": "non-saturating", "penalty": "r1", "gamma": 0.1, "gamma_end": 0.1},
                "training": {"batch": 8, "learning_rate": 2e-3, "beta1": 0.0, "beta2": 0.99, "kimg": 1},
            },
        ),
        "cifar10": Preset(
            about="as its authors trained it on 32 pixels: 512 channels, 512-dimensional w, no mixing, no path length",
            settings={
                "network": {"latent": 512, "style": 512, "mapping": 2, "width": 512, "max_width": 512, "mixing": 0.0, "path": 0.0, "group": 32},
                "objective": {"loss": "non-saturating", "penalty": "r1", "gamma": 0.01, "gamma_end": 0.01, "interval": 16},
                "training": {"batch": 64, "learning_rate": 2.5e-3, "learning_rate_end": 1.0, "beta1": 0.0, "beta2": 0.99, "ema": 0.005, "ema_ramp": 0.05, "kimg": 100000},
            },
        ),
        "karras256": Preset(
            about="as its authors trained it on 256 pixels: 64 to 512 channels, eight mapping layers",
            settings={
                "network": {"latent": 512, "style": 512, "mapping": 8, "width": 64, "max_width": 512, "group": 8},
                "objective": {"loss": "non-saturating", "penalty": "r1", "gamma": 1.0, "gamma_end": 1.0, "interval": 16},
                "training": {"batch": 64, "learning_rate": 2.5e-3, "learning_rate_end": 1.0, "beta1": 0.0, "beta2": 0.99, "ema": 0.0008, "kimg": 25000},
            },
        ),
    },
}
# fmt: on
