"""Pictures as a short grid of tokens: first a codec learns to write and read them, then a prior learns to continue
them (van den Oord et al. 2017, arXiv 1711.00937; Esser et al. 2021, arXiv 2012.09841, without its adversary)."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import Any, ClassVar, Literal, cast

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from zeuxis.config import Config, ImageSpec
from zeuxis.errors import UserError
from zeuxis.families.autoregressive.method import MakesNetwork, Method
from zeuxis.families.autoregressive.outputs import choose
from zeuxis.families.autoregressive.recurrence import NEIGHBOURS, PriorWalk, RecurrentPrior
from zeuxis.families.base import Batch, Networks, Noise, Phase, RenderOptions, Stage, TrainingConfig
from zeuxis.nn.codec import Codec
from zeuxis.nn.quantise import FSQ, VQ, fsq_levels

CODEC = ("encoder", "quantiser", "decoder")  # the parts of stage `codec`, named as in a VAE
MOST_TOKENS = 100  # per picture, where the factor is chosen
COMMITMENT = 0.25  # weight of the encoder's distance to the codes (van den Oord et al. 2017, section 3.2)
CODE_CHANNELS = 16  # of a vector quantiser


class TokensConfig(Config):
    """The codec: `codes` is the size of the vocabulary (an FSQ takes the largest that it can make of it), one token
    stands for `factor` x `factor` pixels, 0 takes the smallest with at most 100 tokens. The prior over its tokens:
    `layers` blocks of `width` channels, whose feed-forward parts are `expand` times as wide."""

    quantiser: Literal["fsq", "vq"] = "fsq"
    codes: int = Field(default=512, ge=16, le=65535)
    factor: Literal[0, 2, 4, 8, 16, 32] = 0
    codec_width: int = Field(default=32, ge=4, le=1024)
    codec_max_width: int = Field(default=64, ge=4, le=4096)
    codec_blocks: int = Field(default=1, ge=0, le=16)
    width: int = Field(default=128, ge=8, le=4096)
    layers: int = Field(default=4, ge=1, le=64)
    expand: int = Field(default=2, ge=1, le=8)


class TokensObjective(Config):
    """`codec_share` of the run trains the codec; 0 leaves it as `--init` gave it (a `vae/fsq` or `vae/vq` with the
    same codec settings). `label_drop` of the pictures hide their class from the prior, so that it can be guided
    away from pictures of any class (Ho & Salimans 2022, arXiv 2207.12598). `token_drop` of the neighbours that the
    prior is told in training are hidden, so that it does not learn the training pictures' tokens by heart (as words
    are dropped by Bowman et al. 2016, arXiv 1511.06349, section 3.1)."""

    codec_share: float = Field(default=0.3, ge=0, lt=1)
    label_drop: float = Field(default=0.1, ge=0, lt=1)
    token_drop: float = Field(default=0.1, ge=0, lt=1)


def factor_of(config: TokensConfig, spec: ImageSpec) -> int:
    """Pixels per token and side."""
    if config.factor:
        return config.factor
    factor = 2
    while math.ceil(spec.height / factor) * math.ceil(spec.width / factor) > MOST_TOKENS and factor < 32:
        sides = [side for side, wrapped in ((spec.height, spec.wrap_y), (spec.width, spec.wrap_x)) if wrapped]
        if any(side % (2 * factor) for side in sides):
            break  # the edges of a wrapped side meet only where its tokens fill it
        factor *= 2
    return factor


def make_codec(config: TokensConfig, spec: ImageSpec) -> Codec:
    """The codec; labels are left to the prior."""
    quantiser: FSQ | VQ
    quantiser = FSQ(fsq_levels(config.codes)) if config.quantiser == "fsq" else VQ(config.codes, CODE_CHANNELS)
    return Codec(spec, quantiser, factor=factor_of(config, spec), width=config.codec_width,
                 max_width=config.codec_max_width, blocks=config.codec_blocks)  # fmt: skip


def make_prior(config: TokensConfig, spec: ImageSpec, classes: int) -> RecurrentPrior:
    """The prior over the codec's grid."""
    factor = factor_of(config, spec)
    grid = math.ceil(spec.height / factor), math.ceil(spec.width / factor)
    codes = math.prod(fsq_levels(config.codes)) if config.quantiser == "fsq" else config.codes
    return RecurrentPrior(grid, codes, config.width, config.layers, config.expand, classes)


@contextlib.contextmanager
def resting(network: nn.Module | None) -> Iterator[None]:
    """Within the block the network is in evaluation mode: a quantiser counts its codes in training only."""
    was = network is not None and network.training
    if network is not None:
        network.eval()
    try:
        yield
    finally:
        if network is not None:
            network.train(was)


class Tokens(Method):
    """Two stages: `codec` (pictures to tokens and back), then `prior` (tokens given the tokens before)."""

    objective_config: ClassVar[type[Config]] = TokensObjective
    chosen_by_nats: ClassVar[bool] = True  # the kernel distance of a thousand samples scatters by a tenth and more
    capabilities = frozenset({"encode", "decode", "reconstruct", "complete"})
    render_options: tuple[str, ...] = ("temperature", "top_k", "top_p")

    def __init__(
        self, network: MakesNetwork, config: Any, objective: Any, training: TrainingConfig, spec: ImageSpec,
        classes: int,
    ) -> None:  # fmt: skip
        super().__init__(network, config, objective, training, spec, classes)
        if spec.frames != 1:
            raise UserError("--frames", spec.frames, "1 for a network over tokens", "take a network over frames")
        if classes and objective.label_drop:
            self.render_options = (*self.render_options, "guidance")
        self.factor = factor_of(config, spec)
        self.grid = math.ceil(spec.height / self.factor), math.ceil(spec.width / self.factor)

    @property
    def steps_per_picture(self) -> int:
        return self.grid[0] * self.grid[1]

    # -- building --------------------------------------------------------------------------------------------------
    def build(self) -> dict[str, nn.Module]:
        codec = make_codec(self.config, self.spec)
        prior = self.network(self.config, self.spec, self.classes)
        return {"encoder": codec.encoder, "quantiser": codec.quantiser, "decoder": codec.decoder, "prior": prior}

    @property
    def model_parts(self) -> tuple[str, ...]:
        return (*CODEC, "prior")

    def stages(self) -> list[Stage]:
        share = self.objective.codec_share  # 0: one step, which changes nothing
        return [
            Stage(name="codec", phases=(Phase(name="codec", parts=CODEC),), share=share),
            Stage(name="prior", phases=(Phase(name="prior", parts=("prior",)),), share=1 - share, codes=True),
        ]

    # -- training --------------------------------------------------------------------------------------------------
    def losses(
        self, phase: Phase, networks: Networks, batch: Batch, noise: Noise, progress: float | Tensor
    ) -> dict[str, Tensor]:
        if phase.name == "codec":
            return self._codec_losses(networks, batch)
        return self._prior_losses(networks, batch, noise)

    def _codec_losses(self, networks: Networks, batch: Batch) -> dict[str, Tensor]:
        """Absolute and squared differences of pixels, summed over a picture, and the quantiser's own terms."""
        given = self.objective.codec_share == 0
        with resting(networks["quantiser"] if given else None):
            quantised, _, terms = networks["quantiser"](networks["encoder"](batch.images, None))
        decoded = networks["decoder"](quantised, None)
        difference = (decoded.float() - batch.images).flatten(1)
        absolute, squared = difference.abs().sum(1), difference.square().sum(1)
        loss = absolute + squared
        if "commitment" in terms:
            loss = loss + COMMITMENT * terms["commitment"]
        return {"loss": 0 * loss if given else loss, "squared error": squared, **terms}

    def _prior_losses(self, networks: Networks, batch: Batch, noise: Noise) -> dict[str, Tensor]:
        """Negative log likelihood of the tokens in nats per picture, and per token."""
        tokens = self._tokens(networks, batch.images) if batch.codes is None else batch.codes
        labels = batch.labels
        if labels is not None:
            labels = torch.where(noise["drop"] < self.objective.label_drop, self.classes, labels)
        nats = self._nats(networks, tokens.long(), labels, noise["hide"] < self.objective.token_drop)
        # What is not finite in the pictures or the noise must not pass unseen: tokens are whole numbers.
        odd = sum(value.flatten(1).sum(1) if value.dim() > 1 else value for value in noise.values())
        watched = nats.sum(1) + 0 * batch.images.flatten(1).sum(1) + 0 * odd
        return {"loss": watched, "nats per token": nats.mean(1)}

    def _nats(self, networks: Networks, tokens: Tensor, labels: Tensor | None, hidden: Tensor | None = None) -> Tensor:
        """Of each token given those before, `[N, h * w]`."""
        logits = networks["prior"](tokens, labels, hidden).float()
        return F.cross_entropy(logits.flatten(0, 1), tokens.flatten(), reduction="none").view(len(tokens), -1)

    def nats(self, networks: Networks, images: Tensor, labels: Tensor | None) -> Tensor:
        """Of the pictures' tokens: of the pictures themselves nothing is known, since many may have the same tokens."""
        return self._nats(networks, self._tokens(networks, images), labels).sum(1)

    def after_step(self, phase: Phase, networks: Networks, batch: Batch) -> None:
        if phase.name == "codec" and self.objective.codec_share > 0:
            cast("FSQ | VQ", networks["quantiser"]).update()

    def codes(self, stage: Stage, networks: Networks, images: Tensor, labels: Tensor | None) -> Tensor:
        """Tokens int64 `[N, h, w]`."""
        return self._tokens(networks, images)

    def _tokens(self, networks: Networks, images: Tensor) -> Tensor:
        with torch.no_grad(), resting(networks["quantiser"]):
            tokens: Tensor = networks["quantiser"](networks["encoder"](images, None))[1]
        return tokens

    # -- sampling --------------------------------------------------------------------------------------------------
    def noise(self, count: int, generator: torch.Generator, purpose: Literal["train", "sample"]) -> Noise:
        """One uniform number per token to sample by `[N, h, w]`; in training one per picture for the label's drop, and
        one for each neighbour of each token."""
        if purpose == "train":
            near = self.steps_per_picture, NEIGHBOURS
            return {"drop": torch.rand(count, generator=generator),
                    "hide": torch.rand(count, *near, generator=generator)}  # fmt: skip
        return {"uniforms": torch.rand(count, *self.grid, generator=generator)}

    def render(self, networks: Networks, noise: Noise, labels: Tensor | None, options: RenderOptions) -> Tensor:
        """Tokens drawn one after the other, decoded at once."""
        tokens = self.draw(networks, noise["uniforms"], labels, options, None, None)
        return self.decoded(networks, tokens)

    def draw(
        self, networks: Networks, uniforms: Tensor, labels: Tensor | None, options: RenderOptions,
        given: Tensor | None, known: Tensor | None,
    ) -> Tensor:  # fmt: skip
        """Tokens int64 `[N, h, w]`; where `known` `[N, h, w]`, those `given`."""
        prior = cast(RecurrentPrior, networks["prior"])
        canvas = torch.zeros(uniforms.shape, dtype=torch.long, device=uniforms.device)
        with torch.no_grad():
            walks: list[PriorWalk] = [prior.walk(canvas, labels)]
            if labels is not None and options.guidance != 1:
                walks.append(prior.walk(canvas, torch.full_like(labels, self.classes)))
            for y in range(self.grid[0]):
                for x in range(self.grid[1]):
                    logits = [walk.logits(y, x) for walk in walks]
                    guided = logits[-1] + options.guidance * (logits[0] - logits[-1])
                    token = choose(guided if len(logits) > 1 else logits[0], uniforms[:, y, x], options)
                    if given is not None and known is not None:
                        token = torch.where(known[:, y, x], given[:, y, x], token)
                    canvas[:, y, x] = token
        return canvas

    def decoded(self, networks: Networks, tokens: Tensor) -> Tensor:
        """Tokens int64 `[N, h, w]` -> pictures float `[-1, 1]` `[N, C, H, W]`."""
        return self.decode(networks, cast("FSQ | VQ", networks["quantiser"]).decode_tokens(tokens), None)

    # -- capabilities ----------------------------------------------------------------------------------------------
    def encode(self, networks: Networks, images: Tensor, labels: Tensor | None) -> Tensor:
        """Quantised vectors `[N, D, h, w]`: unlike tokens they can be mixed."""
        return cast("FSQ | VQ", networks["quantiser"]).decode_tokens(self._tokens(networks, images))

    def decode(self, networks: Networks, codes: Tensor, labels: Tensor | None) -> Tensor:
        decoded: Tensor = networks["decoder"](codes, None)
        return decoded.float().clamp(-1, 1)

    def complete(
        self, networks: Networks, images: Tensor, known: Tensor, labels: Tensor | None, noise: Noise,
        options: RenderOptions,
    ) -> Tensor:  # fmt: skip
        """Tokens all of whose pixels are known are kept, the others drawn given the tokens before them in raster order;
        then what is known is put over the decoded picture."""
        height, width = self.grid[0] * self.factor, self.grid[1] * self.factor
        framed = F.pad(known.float(), (0, width - known.shape[3], 0, height - known.shape[2]), value=1.0)
        whole = -F.max_pool2d(-framed, self.factor)[:, 0] > 0.5  # [N, h, w]
        given = self._tokens(networks, torch.where(known, images, -1.0))
        tokens = self.draw(networks, noise["uniforms"], labels, options, given, whole)
        return torch.where(known, images, self.decoded(networks, tokens))
