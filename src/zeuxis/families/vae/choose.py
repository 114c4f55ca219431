"""What `--model vae` takes where nothing was said: pure rules, each with its reason. Explicit settings win."""

from __future__ import annotations

from zeuxis.families.base import Chosen, Facts

NETWORK = "conv"  # what docs/benchmarks.md measures; another takes its place when it is measured to be better
# On pictures of 28x28 more than the presets' 1e-3; on 64x64 it lets the KL term run away.
SMALL, RATES = 32, {"conv": 2e-3, "dlgm": 4e-3, "ladder": 4e-3}
FEW = 64  # pictures per latent, below which a prior of several components learns single pictures
LONG = 3600.0  # seconds of a budget, in which a flow and a second stage at each snapshot do not matter


def choose(facts: Facts, network: str | None, preset: bool) -> tuple[str, list[Chosen]]:
    """The network, and settings over its first preset, for what is left open; a preset that was named stays as it
    is."""
    taken = network or NETWORK
    if preset:
        return taken, []
    return taken, [*rate(facts, taken), *([*size(facts), likelihood(facts), prior(facts)] if taken == "conv" else [])]


def rate(facts: Facts, network: str) -> list[Chosen]:
    """Learning rate: where it was measured that more is better, and steps held to it."""
    side = max(facts.spec.height, facts.spec.width)
    if network not in RATES or side > SMALL:
        return []
    why = f"pictures of {side} pixels a side (up to {SMALL}) bear it, with steps held to it"
    return [Chosen("training.learning_rate", RATES[network], why, {"training.clip_update": 1.0})]


def size(facts: Facts) -> list[Chosen]:
    """Width, latents and batch."""
    side = max(facts.spec.height, facts.spec.width)
    where = "an accelerator" if facts.accelerator else "a processor"
    width = {False: 32 if side <= 64 else 16, True: 64 if side <= 128 else 32}[facts.accelerator]
    batch = min(64 if side <= 64 else 32, max(8, facts.pictures // 2))
    latent = 32 if side <= 16 else 64 if side <= 64 else 128
    most = {"network.max_width": 128 if not facts.accelerator else 256}
    few = "" if batch >= 32 else f", at most half of {facts.pictures} pictures"
    return [
        Chosen("network.width", width, f"a step of {side} pixels a side on {where} stays short", most),
        Chosen("network.latent", latent, f"enough for {side} pixels a side: what is not needed falls silent"),
        Chosen("training.batch", batch, f"for {side} pixels a side{few}"),
    ]


def likelihood(facts: Facts) -> Chosen:
    """One learned scale balances reconstruction and KL on any data."""
    return Chosen("objective.likelihood", "gaussian", "its learned scale weighs the two parts of the bound by itself")


def prior(facts: Facts) -> Chosen:
    """What is fitted after training."""
    latent = 64
    if facts.pictures < FEW:
        return Chosen("objective.prior", "standard", f"{facts.pictures} pictures are too few to fit a prior to")
    if facts.pictures < FEW * latent:
        why = f"{facts.pictures:,} pictures: a mixture, whose components are as many as held-out codes allow"
        return Chosen("objective.prior", "mixture", why)
    if facts.accelerator or (facts.seconds or 0.0) >= LONG:
        return Chosen(
            "objective.prior", "auto", "time enough for a mixture, a flow and a second stage: the best of three"
        )
    return Chosen("objective.prior", "mixture", "fitted in seconds; an hour or an accelerator would try a flow too")
