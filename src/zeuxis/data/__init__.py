"""Pictures from anywhere -> a checked, cached, split data set. Importing this imports no torch."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zeuxis.data.dataset import Dataset as Dataset
    from zeuxis.data.dataset import Split as Split
    from zeuxis.data.dataset import is_data as is_data
    from zeuxis.data.dataset import open_dataset as open_dataset
    from zeuxis.data.dataset import scan as scan
    from zeuxis.data.order import Order as Order
    from zeuxis.data.report import Finding as Finding
    from zeuxis.data.report import Report as Report

# Public name -> module; loaded when first used, because every worker process imports this package.
_PUBLIC = dict.fromkeys(("Dataset", "Split", "is_data", "open_dataset", "scan"), "dataset")
_PUBLIC |= {"Finding": "report", "Order": "order", "Report": "report"}
__all__ = ["Dataset", "Finding", "Order", "Report", "Split", "is_data", "open_dataset", "scan"]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(f"zeuxis.data.{_PUBLIC[name]}"), name)
    raise AttributeError(f"module 'zeuxis.data' has no attribute {name!r}")
