"""What can be set of a GAN beside its network: the objective and the augmentation."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from zeuxis.augment import KINDS, Kind
from zeuxis.config import Config
from zeuxis.errors import UserError

PENALTIES = Literal["r1+r2", "r1", "r2", "gradient", "r1+r2 finite", "r1 finite", "r2 finite"]
PROBABILITIES = ("minimax", "non-saturating")  # losses whose logit is that of a probability


class ObjectiveConfig(Config):
    """The adversarial loss, the penalty on the discriminator's gradient, and the techniques of Salimans et al. 2016.

    `gamma` is the penalty's weight (R1 and R2: gamma / 2 each; `gradient`: gamma); it goes from `gamma` to `gamma_end`
    over the run by a cosine, 0 switches the penalty off. `finite` penalties are differences at distance `step`.
    `interval` above 1 makes the penalty a step of its own every so many steps, `interval` times as strong (lazy
    regularisation, Karras et al. 2020, arXiv 1912.04958, section 3.1).

    `generator` is what the generator minimises, `label_smoothing` how far from 1 the target of real pictures is,
    `historical_averaging` the weight of the distance to the mean of past parameters, `minibatch_kernels` how many
    numbers of minibatch discrimination each picture gets; `semi_supervised` makes the discriminator a classifier with
    K + 1 classes. `consistency` weighs its cross-entropy on unlabelled pictures that it is sure of, changed by
    `augment.kinds`; labelled ones are changed too then.

    `crops` is for pictures that shall wrap, learned from pictures whose own edges do not meet: the discriminator does
    not look over the edges, and sees each generated picture moved around them by a random distance.
    """

    loss: Literal["relativistic", "non-saturating", "minimax", "least-squares", "hinge", "wasserstein"] = "relativistic"
    penalty: PENALTIES = "r1+r2"
    gamma: float = Field(default=1.0, ge=0, le=1e6)
    gamma_end: float = Field(default=0.1, ge=0, le=1e6)
    step: float = Field(default=0.05, gt=0, le=1)
    interval: int = Field(default=1, ge=1, le=64)
    generator: Literal["adversarial", "feature matching"] = "adversarial"
    label_smoothing: float = Field(default=0.0, ge=0, lt=0.5)
    historical_averaging: float = Field(default=0.0, ge=0, le=1e6)
    minibatch_kernels: int = Field(default=0, ge=0, le=1024)
    semi_supervised: bool = False
    consistency: float = Field(default=0.0, ge=0, le=1000)
    crops: bool = False

    @model_validator(mode="after")
    def _need_a_probability(self) -> ObjectiveConfig:
        for key in ("label_smoothing", "semi_supervised"):
            if getattr(self, key) and self.loss not in PROBABILITIES:
                allowed = f"only with objective.loss {' or '.join(PROBABILITIES)}"
                next_step = f"a {self.loss} loss says no probability: --set objective.loss=non-saturating"
                raise UserError(f"--set objective.{key}", getattr(self, key), allowed, next_step)
        if self.consistency and not self.semi_supervised:
            raise UserError("--set objective.consistency", self.consistency, "0 without --semi-supervised",
                            "it is about the classes of unlabelled pictures")  # fmt: skip
        if self.semi_supervised and self.minibatch_kernels:
            raise UserError("--set objective.minibatch_kernels", self.minibatch_kernels, "0 beside semi-supervised",
                            "a picture's class must not depend on its batch")  # fmt: skip
        return self

    @property
    def finite(self) -> bool:
        """Whether the penalty is a finite difference."""
        return self.penalty.endswith("finite")

    @property
    def at_real(self) -> bool:
        """Whether R1 is in the penalty."""
        return "r1" in self.penalty

    @property
    def at_fake(self) -> bool:
        """Whether R2 is in the penalty."""
        return "r2" in self.penalty

    @property
    def penalised(self) -> bool:
        """Whether there is a penalty at any time."""
        return max(self.gamma, self.gamma_end) > 0


class AugmentConfig(Config):
    """What is done to pictures before the discriminator sees them: each of `kinds` with `probability` (0: nothing).

    With `ramp` the probability rises from 0 to `probability` over the run by a cosine (Huang et al. 2024, section 4).
    With `adaptive` it is at most `probability`, and rises while the discriminator takes validation pictures for
    generated ones to a degree above `target`, 0 to 1 (r_v of Karras et al. 2020, arXiv 2006.06676, Eq. 1), else falls;
    it can go from 0 to 1 in the share `reach` of the run.
    """

    probability: float = Field(default=0.0, ge=0, le=0.9)
    kinds: tuple[Kind, ...] = KINDS
    ramp: bool = False
    adaptive: bool = False
    target: float = Field(default=0.3, gt=0, lt=1)
    reach: float = Field(default=0.2, gt=0, le=1)

    @model_validator(mode="after")
    def _one_way(self) -> AugmentConfig:
        if self.ramp and self.adaptive:
            raise UserError("--set augment.adaptive", True, "one of ramp and adaptive", "leave augment.ramp out")
        return self
