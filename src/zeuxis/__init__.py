"""Zeuxis trains, judges, edits and serves image generators on your own pictures: GAN, VAE and autoregressive."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from zeuxis.data import open_dataset as open_dataset
    from zeuxis.errors import UserError as UserError
    from zeuxis.estimators import GAN as GAN
    from zeuxis.estimators import VAE as VAE
    from zeuxis.estimators import Autoregressive as Autoregressive
    from zeuxis.estimators import load as load

# Public name -> module; loaded when first used, so that importing zeuxis does not import torch.
_PUBLIC = {
    "GAN": "zeuxis.estimators",
    "VAE": "zeuxis.estimators",
    "Autoregressive": "zeuxis.estimators",
    "load": "zeuxis.estimators",
    "open_dataset": "zeuxis.data",
    "UserError": "zeuxis.errors",
}
__all__ = ["GAN", "VAE", "Autoregressive", "UserError", "__version__", "load", "open_dataset"]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'zeuxis' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
