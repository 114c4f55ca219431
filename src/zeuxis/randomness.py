"""Random numbers as a function of what they are for: the same key gives the same numbers in any process or order."""

from __future__ import annotations

import hashlib

import torch


def seed_of(*key: object) -> int:
    """A 63-bit seed from any words and numbers, the same on every machine."""
    digest = hashlib.blake2b(repr(key).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def generator_for(*key: object, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator whose numbers depend on `key` and the kind of `device` alone."""
    return torch.Generator(device).manual_seed(seed_of(*key))
