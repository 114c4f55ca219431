"""Pictures from anywhere -> a checked, cached, split data set. Importing this imports no torch."""

from __future__ import annotations

from zeuxis.data.dataset import Dataset, Split, is_data, open_dataset, scan
from zeuxis.data.order import Order
from zeuxis.data.report import Finding, Report

__all__ = ["Dataset", "Finding", "Order", "Report", "Split", "is_data", "open_dataset", "scan"]
