"""How fast autoregressive networks train and sample: three comparisons, each on fresh networks (speed does not depend
on what was learned), grey 28x28.

"cached": 64 pictures of each network over pixels by its cached walk, against the naive way, in which every pixel takes
a full pass. Of the naive way a few passes are timed, and 784 of them taken. Also the largest difference of the two
ways' features, relative to the largest feature.

"prior": the recurrent prior over tokens against a Transformer with a key-value cache and about as many parameters: 49
tokens (28x28 pictures by a factor of 4) and 256 tokens (64x64) of 64 pictures, and one training step on the same.

"scan": forward and backward of the recurrence at 1,024 steps by the parallel scan, against a loop that takes its steps
one by one (slices taken once by `unbind`, which is several times as fast as indexing).
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from timing import in_turns, report, seconds
from zeuxis.config import ImageSpec
from zeuxis.families import make_family
from zeuxis.families.autoregressive.recurrence import RecurrentPrior
from zeuxis.families.base import RenderOptions
from zeuxis.nn.scan import scan, scan_by_steps
from zeuxis.planning import bfloat16_is_fast
from zeuxis.sampling import in_bfloat16

SPEC = ImageSpec(height=28, width=28, channels=1)
PICTURES = 64
CODES = 512


class Transformer(nn.Module):
    """A pre-norm decoder-only Transformer over the same grid of tokens, with the same embeddings at its input."""

    def __init__(self, length: int, width: int, layers: int, heads: int, expand: int) -> None:
        super().__init__()
        self.heads, self.width = heads, width
        self.embed, self.place = (
            nn.Embedding(CODES + 1, width),
            nn.Parameter(torch.randn(length, width) * 0.02),
        )
        self.blocks = nn.ModuleList(
            nn.ModuleDict({
                "norm": nn.LayerNorm(width), "qkv": nn.Linear(width, 3 * width), "out": nn.Linear(width, width),
                "norm2": nn.LayerNorm(width), "up": nn.Linear(width, expand * width),
                "down": nn.Linear(expand * width, width),
            })
            for _ in range(layers)
        )  # fmt: skip
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, CODES)

    def split(self, x: Tensor) -> Tensor:
        """`[N, T, D]` -> `[N, heads, T, D / heads]`."""
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def forward(self, tokens: Tensor, cache: list[tuple[Tensor, Tensor]] | None = None, start: int = 0) -> Tensor:
        """Inputs `[N, T]` (each the token before, CODES at the start) -> logits; with a cache, of positions from
        `start` on."""
        x = self.embed(tokens) + self.place[start : start + tokens.shape[1]]
        for index, block in enumerate(self.blocks):
            assert isinstance(block, nn.ModuleDict)
            q, k, v = (self.split(part) for part in block["qkv"](block["norm"](x)).chunk(3, dim=-1))
            if cache is not None:
                cache[index][0][:, :, start] = k[:, :, 0]
                cache[index][1][:, :, start] = v[:, :, 0]
                k, v = (kept[:, :, : start + 1] for kept in cache[index])
            attended = F.scaled_dot_product_attention(q, k, v, is_causal=cache is None)
            x = x + block["out"](attended.transpose(1, 2).flatten(2))
            x = x + block["down"](F.gelu(block["up"](block["norm2"](x))))
        out: Tensor = self.head(self.norm(x))
        return out

    def sample(self, uniforms: Tensor) -> Tensor:
        """Tokens `[N, T]` by inverse distribution functions of uniforms `[N, T]`."""
        count, length = uniforms.shape
        shape = (count, self.heads, length, self.width // self.heads)
        cache = [(torch.zeros(shape), torch.zeros(shape)) for _ in self.blocks]
        tokens = torch.full((count, length + 1), CODES)
        for at in range(length):
            logits = self(tokens[:, at : at + 1], cache, at)[:, 0]
            edges = torch.softmax(logits, dim=-1).cumsum(-1)
            tokens[:, at + 1] = (edges[:, :-1] <= uniforms[:, at, None]).sum(-1)
        return tokens[:, 1:]


def parameters(network: nn.Module, embeddings: bool = True) -> int:
    """The number of parameters, without those of embeddings where these are not counted."""
    skipped = 0 if embeddings else sum(module.weight.numel() for module in network.modules()
                                       if isinstance(module, nn.Embedding))  # fmt: skip
    return sum(p.numel() for p in network.parameters()) - skipped


@torch.inference_mode()
def cached(preset: str, passes: int, turns: int) -> None:
    family = make_family(preset, SPEC)
    networks = {part: network.eval() for part, network in family.build().items()}
    noise = family.noise(PICTURES, torch.Generator().manual_seed(0), "sample")
    pictures = family.render(networks, noise, None, RenderOptions())
    body = networks["network"].body
    full = body(pictures, None)  # type: ignore[operator]
    canvas = torch.zeros_like(pictures)
    walk = body.walk(canvas, None)  # type: ignore[operator, union-attr]
    worst: list[Tensor] = []
    for y in range(SPEC.height):
        for x in range(SPEC.width):
            worst.append((walk.features(y, x) - full[:, :, y, x]).abs().max())
            canvas[:, :, y, x] = pictures[:, :, y, x]
    own = sorted(seconds(lambda: family.render(networks, noise, None, RenderOptions())) for _ in range(turns))
    naive = sorted(seconds(lambda: body(pictures, None)) for _ in range(passes))  # type: ignore[operator]
    ours, theirs = own[len(own) // 2], naive[len(naive) // 2] * SPEC.height * SPEC.width
    report(f"{preset}: cached sampling against {SPEC.height * SPEC.width} full passes, {PICTURES} pictures 28x28 grey",
           ratio=round(theirs / ours, 1), ours_images_per_second=round(PICTURES / ours, 1),
           peer_images_per_second=round(PICTURES / theirs, 3), parameters=parameters(networks["network"]),
           largest_difference=(torch.stack(worst).max() / full.abs().max()).item(),
           threads=torch.get_num_threads())  # fmt: skip


def pair(grid: tuple[int, int], width: int) -> tuple[RecurrentPrior, Transformer]:
    """The prior of `tokens/small` and a Transformer of three layers: about as many parameters, of which ours has nearly
    half in its lookup."""
    return RecurrentPrior(grid, CODES, width, 3, 1, 0), Transformer(math.prod(grid), width, 3, max(1, width // 32), 4)


def prior(grid: tuple[int, int], width: int, turns: int) -> None:
    torch.manual_seed(0)
    length = math.prod(grid)
    ours, peer = pair(grid, width)
    uniforms = torch.rand(PICTURES, length, generator=torch.Generator().manual_seed(0))

    @torch.inference_mode()
    def sample(network: RecurrentPrior, half: bool = False) -> Tensor:
        canvas = torch.zeros(PICTURES, *grid, dtype=torch.long)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
            walk = network.walk(canvas, None)
            for at in range(length):
                y, x = divmod(at, grid[1])
                edges = torch.softmax(walk.logits(y, x).float(), dim=-1).cumsum(-1)
                canvas[:, y, x] = (edges[:, :-1] <= uniforms[:, at, None]).sum(-1)
        return canvas

    theirs = torch.inference_mode()(lambda: peer.sample(uniforms))
    lowered = cast(RecurrentPrior, in_bfloat16(ours))
    sampling = {f"sampling {length} tokens": in_turns(lambda: sample(ours), theirs, turns=turns)}
    if bfloat16_is_fast(torch.device("cpu")):
        turned = in_turns(lambda: sample(lowered, True), theirs, turns=turns)
        sampling[f"sampling {length} tokens with products in bfloat16 against float32"] = turned
    tokens = torch.randint(CODES, (PICTURES, *grid), generator=torch.Generator().manual_seed(1))
    before = F.pad(tokens.flatten(1), (1, 0), value=CODES)[:, :-1]

    def step(logits: Callable[[], Tensor]) -> None:
        F.cross_entropy(logits().flatten(0, 1), tokens.flatten()).backward()

    training = in_turns(lambda: step(lambda: ours(tokens, None)), lambda: step(lambda: peer(before)), turns=turns)
    sizes = {"parameters": [parameters(ours), parameters(peer)],
             "parameters_in_products": [parameters(ours, False), parameters(peer, False)]}  # fmt: skip
    for what, turned in (sampling | {f"training step of {length} tokens": training}).items():
        own, other = turned.seconds
        report(f"tokens prior, {what}, {PICTURES} pictures, against a Transformer", **turned.to_json(), **sizes,
               ours_images_per_second=round(PICTURES / own, 1), peer_images_per_second=round(PICTURES / other, 1),
               threads=torch.get_num_threads())  # fmt: skip


def whole(preset: str, turns: int) -> None:
    """Pictures a second out of the whole model: tokens, then the decoder."""
    family = make_family(preset, SPEC)
    networks = {part: network.eval() for part, network in family.build().items()}
    noise = family.noise(PICTURES, torch.Generator().manual_seed(0), "sample")
    with torch.inference_mode():
        family.render(networks, noise, None, RenderOptions())
        times = sorted(seconds(lambda: family.render(networks, noise, None, RenderOptions())) for _ in range(turns))
    rate = round(PICTURES / times[len(times) // 2], 1)
    report(f"{preset}: sampling {PICTURES} pictures 28x28 grey", ours_images_per_second=rate,
           threads=torch.get_num_threads())  # fmt: skip


def scanning(batch: int, width: int, turns: int) -> None:
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.rand(batch, 1024, width, generator=generator).requires_grad_() for _ in range(2))

    def run(function: Callable[[Tensor, Tensor], Tensor]) -> None:
        function(a, b).sum().backward()

    difference = (scan(a, b) - scan_by_steps(a, b)).abs().max().item()
    turned = in_turns(lambda: run(scan), lambda: run(scan_by_steps), turns=turns, warm_up=2)
    report(f"recurrence of 1,024 steps, {batch} sequences of {width} channels, training, against the loop",
           **turned.to_json(), largest_difference=difference, threads=torch.get_num_threads())  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=["cached", "prior", "scan"], help="one of the three")
    parser.add_argument("--short", action="store_true", help="few turns: to see that it works")
    asked = parser.parse_args()
    turns, passes = (1, 1) if asked.short else (7, 5)
    if asked.only in (None, "cached"):
        for preset in ("pixelcnn/small", "wavenet/small", "pixelrnn/row", "pixelrnn/diagonal"):
            cached(preset, passes, min(turns, 3))
    if asked.only in (None, "prior"):
        for grid in ((7, 7), (16, 16)):
            prior(grid, 128, turns)
        whole("tokens/small", turns)
    if asked.only in (None, "scan"):
        for batch, width in ((1, 128), (4, 128), (8, 128), (16, 256)):
            scanning(batch, width, turns)


if __name__ == "__main__":
    main()
