"""Generators as files that other programs run: ONNX, and a folder that makes pictures in a browser."""

from zeuxis.export.onnx_file import Parity, export_onnx, measure_parity
from zeuxis.export.token_step import export_step, is_token_model
from zeuxis.export.web import export_web

__all__ = ["Parity", "export_onnx", "export_step", "export_web", "is_token_model", "measure_parity"]
