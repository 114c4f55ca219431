"""What `--model gan` takes where nothing was said: pure rules, each with its reason. Explicit settings win."""

from __future__ import annotations

from zeuxis.families.base import Chosen, Facts

NETWORK = "resnet"  # the best at equal time in docs/benchmarks.md, on a processor as on a GPU
CLASSIFIER = "dcgan"  # for semi-supervised learning
FEW = 20_000  # pictures, from which on a discriminator of this size does not learn them by heart in hours
HELD_OUT = 20  # validation pictures, fewer than which say nothing of what D learned by heart
RAMP = 0.3  # where the probability ends without them, as Huang et al. 2024 ramp it on faces
# Over the pictures, below which it does not get to it either, and augmentation costs more than it gives: with 860 over
# 950 pictures of 28x28 the Fréchet distance is 1.5 times that without (benchmarks/few_pictures.py).
PASSES = 1000
# Not what turns a picture into another one that could be real: flip and rotate.
KINDS = ("shift", "fraction", "scale", "aniso", "colour", "cutout")
SEAM = 1.1  # difference across the edges over that inside, above which pictures are crops of something larger
GAMMA = ("dcgan", "resnet", "r3gan")  # networks whose presets have the relativistic loss with R1 and R2
RATE = {False: 800.0, True: 15_000.0}  # pictures of 32x32 a second, without and with an accelerator: a guess for PASSES


def choose(facts: Facts, network: str | None, preset: bool) -> tuple[str, list[Chosen]]:
    """The network, and settings over its first preset, for what is left open: with `network` None all of it, else its
    settings; a preset that was named stays as it is, but for what semi-supervised learning and edges that do not meet
    cannot do without."""
    taken = network or (CLASSIFIER if facts.semi_supervised else NETWORK)
    chosen = semi_supervised() if facts.semi_supervised else []
    if facts.seam > SEAM:
        why = f"the pictures' own edges do not meet: {facts.seam:.2f} of the difference inside"
        chosen.append(Chosen("objective.crops", True, why))
    if preset:
        return taken, chosen
    if taken in GAMMA and not facts.semi_supervised:
        chosen.append(penalty(facts))
    if taken == "dcgan":
        chosen += dcgan(facts)
    if taken == "resnet":
        chosen += resnet(facts)
    return taken, [*chosen, augmentation(facts)]


def dcgan(facts: Facts) -> list[Chosen]:
    """Width and batch."""
    side = max(facts.spec.height, facts.spec.width)
    where = "an accelerator" if facts.accelerator else "a processor"
    width = {False: 32 if side <= 64 else 16, True: 64 if side <= 128 else 32}[facts.accelerator]
    batch = {False: 64 if side <= 64 else 32, True: 128 if side <= 128 else 64}[facts.accelerator]
    most = max(8, facts.pictures // 2)
    few = "" if batch <= most else f", but at most half of {facts.pictures} pictures"
    return [
        Chosen("network.width", width, f"a step of {side} pixels a side on {where} stays short"),
        Chosen("training.batch", min(batch, most), f"for {side} pixels on {where}{few}"),
    ]


def resnet(facts: Facts) -> list[Chosen]:
    """Batch, learning rate, and how wide the generator is: the rate that is fastest on small pictures lets the
    discriminator run away on larger ones; many small pictures differ by more than a narrow generator can show."""
    side = max(facts.spec.height, facts.spec.width)
    many = facts.pictures >= FEW
    batch = (64 if many else 32) if side <= 32 else 32 if side <= 64 else 16
    if facts.accelerator:  # where starting kernels takes longer than computing them, four times as many cost no more
        batch *= 4
    most = max(8, facts.pictures // 2)
    few = "" if batch <= most else f", but at most half of {facts.pictures} pictures"
    why = f"{side} pixels a side, {facts.pictures:,} pictures{', an accelerator' * facts.accelerator}"
    return [
        Chosen("training.batch", min(batch, most), why + few),
        Chosen("training.learning_rate", (4e-3 if many else 1.5e-3) if side <= 32 else 6e-4, why),
        Chosen("network.generator_scale", 2 if many and side <= 32 else 1, why),
    ]


def penalty(facts: Facts) -> Chosen:
    """Gamma grows with the number of pixels, as in Karras et al. 2020 and Huang et al. 2024: a gradient has as many
    values."""
    pixels = facts.spec.height * facts.spec.width
    gamma = round(max(1.0, pixels / 1024), 2)
    why = f"{facts.spec.width}x{facts.spec.height} pixels: 1 up to 32x32, and as much more as there are more pixels"
    also = {"objective.gamma_end": round(gamma / 10, 3)}
    return Chosen("objective.gamma", gamma, why, also, ("objective.loss", "objective.penalty"))


def passes(facts: Facts) -> float:
    """About how often each picture will be shown."""
    if facts.images is not None:
        return facts.images / facts.pictures
    if facts.seconds is None:
        return PASSES  # the preset's own length: long enough to need it
    rate = RATE[facts.accelerator] * 1024 / max(256, facts.spec.height * facts.spec.width)
    return facts.seconds * rate / facts.pictures


def augmentation(facts: Facts) -> Chosen:
    """Adaptive where pictures are few and are shown often, else none."""
    pictures, times = facts.pictures, passes(facts)
    if pictures >= FEW or times < PASSES:
        why = f"{pictures:,} pictures are enough ({FEW:,})"
        if pictures < FEW:
            why = f"each of {pictures:,} pictures is shown about {times:.0f} times, fewer than {PASSES}"
        return Chosen("augment.probability", 0.0, why, yields_to=("augment.",))
    few = f"{pictures:,} pictures are few (under {FEW:,})"
    if facts.validation < HELD_OUT:
        why = f"{few}, and {facts.validation} for validation too few to adapt by ({HELD_OUT}): a fixed rise"
        return Chosen(
            "augment.probability", RAMP, why, {"augment.ramp": True, "augment.kinds": list(KINDS)}, ("augment.",)
        )
    why = f"{few}: as much as keeps D from learning them by heart"
    also = {"augment.adaptive": True, "augment.kinds": list(KINDS)}
    return Chosen("augment.probability", 0.8, why, also, ("augment.",))


def semi_supervised() -> list[Chosen]:
    """What the method of Salimans et al. 2016, section 5, is made of."""
    return [
        Chosen("objective.semi_supervised", True, "--semi-supervised"),
        Chosen("objective.loss", "non-saturating", "the K + 1 classes have probabilities"),
        Chosen("objective.generator", "feature matching", "classifies best (Salimans et al. 2016, section 5)"),
        Chosen(
            "objective.consistency",
            1.0,
            "changed pictures keep their class (Sohn et al. 2020)",
            {"augment.kinds": list(KINDS)},
        ),
        Chosen(
            "objective.gamma",
            0.0,
            "a smooth discriminator tells classes apart less",
            {"objective.gamma_end": 0.0},
            ("objective.penalty",),
        ),
    ]
