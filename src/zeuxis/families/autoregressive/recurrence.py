"""A prior over token grids of gated diagonal linear recurrences: trained in parallel by a scan, sampled with a state of
constant size.

The recurrence and its block are Griffin's (De et al. 2024, arXiv 2402.19427, section 2.4 and Figure 2): two branches, a
short causal convolution, the recurrence, an output gate, then a gated feed-forward part. As in HGRN (Qin et al. 2023,
arXiv 2311.04823) and minGRU (Feng et al. 2024, arXiv 2410.01201) the gates see the block's input alone, so that one
matrix product serves branches and gates of the whole sequence. The output gate is a SiLU, the norms are layer norms.
"""

from __future__ import annotations

from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zeuxis.nn.scan import scan

TAPS = 4  # of the causal convolution
NEIGHBOURS = 6  # tokens before one that its input holds
SHARPNESS = 8.0  # c in log a = -c softplus(decay) sigmoid(r) (Eq. 4)


class State(NamedTuple):
    """What a block keeps from token to token: the TAPS - 1 last inputs of its convolution, oldest first, and the
    recurrence, all `[N, D]`."""

    taps: tuple[Tensor, ...]
    memory: Tensor


class Block(nn.Module):
    """x + recurrence(norm x), then x + gated feed-forward(norm x); both `[N, T, D]`, E = D channels recur."""

    def __init__(self, width: int, expand: int) -> None:
        super().__init__()
        self.width = width
        self.norm, self.norm_forward = nn.LayerNorm(width), nn.LayerNorm(width)
        self.project = nn.Linear(width, 4 * width)  # value, output gate, recurrence gate, input gate
        self.taps = nn.Parameter(torch.randn(TAPS, width) * TAPS**-0.5)
        # a^c from 0.9 to 0.999 at r = 1 (section 2.4), so that channels remember from a few to hundreds of tokens.
        decay = torch.linspace(0.9, 0.999, width).log().neg() / SHARPNESS
        self.decay = nn.Parameter(torch.log(torch.expm1(decay)) if decay.device.type != "meta" else decay)
        self.out = nn.Linear(width, width, bias=False)
        self.up, self.down = nn.Linear(width, 2 * expand * width), nn.Linear(expand * width, width, bias=False)

    def rate(self) -> Tensor:
        """log a of each channel `[D]` where its gate is wide open."""
        return -SHARPNESS * F.softplus(self.decay)

    def gates(self, x: Tensor, rate: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Value, output gate, decay a and input scale sqrt(1 - a^2) i, each of the shape of `x` (Eq. 1 to 4)."""
        value, raw = self.project(self.norm(x)).split([self.width, 3 * self.width], dim=-1)
        open_output, forget, enter = torch.sigmoid(raw).chunk(3, dim=-1)
        decay = torch.exp(forget * rate)
        scale = (1 - decay * decay).clamp(min=1e-6).sqrt() * enter
        return value, raw[..., : self.width] * open_output, decay, scale

    def feed_forward(self, x: Tensor) -> Tensor:
        """x + down(silu(u) * w) with u and w from one product."""
        opening, value = self.up(self.norm_forward(x)).chunk(2, dim=-1)
        return cast(Tensor, x + self.down(F.silu(opening) * value))

    def forward(self, x: Tensor) -> Tensor:
        value, output, decay, scale = self.gates(x, self.rate())
        padded, length = F.pad(value, (0, 0, TAPS - 1, 0)), x.shape[1]
        mixed = padded[:, :length] * self.taps[0]
        for tap in range(1, TAPS):
            mixed = torch.addcmul(mixed, padded[:, tap : tap + length], self.taps[tap].to(mixed.dtype))
        memory = scan(decay, scale * mixed)
        return self.feed_forward(x + self.out(memory * output))

    def step(self, x: Tensor, state: State, rate: Tensor) -> tuple[Tensor, State]:
        """One token `[N, D]`."""
        value, output, decay, scale = self.gates(x, rate)
        *weights, newest = self.taps.to(value.dtype).unbind(0)
        mixed = value * newest
        for before, weight in zip(state.taps, weights, strict=True):
            mixed = torch.addcmul(mixed, before, weight)
        memory = torch.addcmul(scale * mixed, decay, state.memory)
        return self.feed_forward(x + self.out(memory * output)), State((*state.taps[1:], value), memory)

    def first_state(self, count: int, like: Tensor) -> State:
        """Before the first token."""
        zero = like.new_zeros(count, self.width)
        return State((zero,) * (TAPS - 1), zero)


class RecurrentPrior(nn.Module):
    """Logits of every token of a grid `[h, w]` in raster order, given those before it and (maybe) a class.

    The network is told its neighbours and where it is; all else is in its state. What a lookup tells it, it need not
    compute. Label `classes` stands for no class, for guidance.
    """

    def __init__(self, grid: tuple[int, int], codes: int, width: int, layers: int, expand: int, classes: int) -> None:
        super().__init__()
        self.grid, self.codes = grid, codes
        # How long before a token its neighbours are, in raster order: two to the left, three above, one above these.
        above = grid[1]
        self.distances = [max(1, distance) for distance in (1, 2, above - 1, above, above + 1, 2 * above)]
        # A part of the table for each; index `codes` of each stands for what is before the first token.
        self.near = nn.Embedding(NEIGHBOURS * (codes + 1), width)
        self.row, self.column = (nn.Parameter(torch.randn(side, width) * 0.02) for side in grid)
        self.label = nn.Embedding(classes + 1, width) if classes else None
        nn.init.normal_(self.near.weight, std=0.5 * NEIGHBOURS**-0.5)
        if self.label is not None:
            nn.init.normal_(self.label.weight, std=0.3)
        self.blocks = nn.ModuleList(Block(width, expand) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, codes)
        nn.init.normal_(self.head.weight, std=0.02)

    def inputs(self, tokens: Tensor, labels: Tensor | None, hidden: Tensor | None = None) -> Tensor:
        """Tokens `[N, h, w]`, and maybe which neighbours of each are hidden, bool `[N, h * w, NEIGHBOURS]` -> what the
        first block gets, `[N, h * w, D]`."""
        framed, length = self.framed(tokens), tokens[0].numel()
        near = torch.stack([framed[:, self.frame - distance :][:, :length] for distance in self.distances], dim=-1)
        near = near if hidden is None else near.masked_fill(hidden, self.codes)
        x = self.lookup(near).unflatten(1, self.grid) + self.row[:, None] + self.column
        if self.label is not None:
            x = x + self.label(labels)[:, None, None]
        return x.flatten(1, 2)

    @property
    def frame(self) -> int:
        """The longest distance of a neighbour."""
        return max(self.distances)

    def framed(self, tokens: Tensor) -> Tensor:
        """Tokens `[N, h, w]` in raster order after as many that stand for none, `[N, frame + h * w]`."""
        return F.pad(tokens.flatten(1), (self.frame, 0), value=self.codes)

    def lookup(self, near: Tensor) -> Tensor:
        """Neighbours `[N, ..., NEIGHBOURS]` -> the sum of what the table says of each `[N, ..., D]`."""
        return cast(Tensor, self.near(near + self.parts(near.device)).sum(-2))

    def parts(self, device: torch.device) -> Tensor:
        """Where the part of the table for each neighbour begins, `[NEIGHBOURS]`."""
        return torch.arange(NEIGHBOURS, device=device) * (self.codes + 1)

    def forward(self, tokens: Tensor, labels: Tensor | None, hidden: Tensor | None = None) -> Tensor:
        """Tokens `[N, h, w]` -> logits `[N, h * w, codes]`; of each token's neighbours, the `hidden` are not told."""
        x = self.inputs(tokens, labels, hidden)
        for block in self.blocks:
            x = block(x)
        return cast(Tensor, self.head(self.norm(x)))

    def walk(self, canvas: Tensor, labels: Tensor | None) -> PriorWalk:
        """The pass that draws, from `canvas` `[N, h, w]`, which the caller fills in between."""
        return PriorWalk(self, canvas, labels)


class PriorWalk:
    """Logits token by token, from a state whose size does not grow."""

    def __init__(self, prior: RecurrentPrior, canvas: Tensor, labels: Tensor | None) -> None:
        self.prior, self.canvas = prior, canvas
        self.blocks = cast("list[Block]", list(prior.blocks))
        self.rates = [block.rate() for block in self.blocks]
        self.states = [block.first_state(len(canvas), prior.head.weight) for block in self.blocks]
        # What a token's place alone says is made once for all: on a processor a step costs its number of operations.
        self.places = (prior.row[:, None] + prior.column).flatten(0, 1)
        self.label = None if prior.label is None else prior.label(labels)
        self.framed, self.parts = prior.framed(canvas), prior.parts(canvas.device)
        near = prior.frame - torch.tensor(prior.distances, device=canvas.device)
        self.near = (near + torch.arange(len(self.places), device=canvas.device)[:, None]).unbind(0)

    def logits(self, y: int, x: int) -> Tensor:
        """`[N, codes]` at a place; called once for each in raster order, when the canvas holds all before it."""
        prior, at = self.prior, y * self.canvas.shape[2] + x
        if at:
            self.framed[:, prior.frame + at - 1] = self.canvas.flatten(1)[:, at - 1]
        near = self.framed.index_select(1, self.near[at]) + self.parts
        hidden = F.embedding_bag(near, prior.near.weight, mode="sum") + self.places[at]
        if self.label is not None:
            hidden = hidden + self.label
        for index, block in enumerate(self.blocks):
            hidden, self.states[index] = block.step(hidden, self.states[index], self.rates[index])
        return cast(Tensor, prior.head(prior.norm(hidden)))
