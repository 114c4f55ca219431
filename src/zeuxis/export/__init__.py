"""Generators as files that other programs run: ONNX, and a folder that makes pictures in a browser."""

from zeuxis.export.onnx_file import Parity, export_onnx, measure_parity
from zeuxis.export.web import export_web

__all__ = ["Parity", "export_onnx", "export_web", "measure_parity"]
