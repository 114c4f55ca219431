"""Blocks used by two or more families: plain keyword arguments, no configuration, no files."""
