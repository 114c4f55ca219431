"""Quality of `tokens` on Fashion-MNIST, in two comparisons.

"samples": Fréchet distance of 10,000 samples to the 10,000 test pictures, against a VAE that trained for as long.

"prior": nats per token on test pictures of the recurrent prior and of a Transformer with about as many parameters, on
the tokens of the codec that was trained for "samples", both by as many steps of the same optimiser on the same batches.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench_ar_sampling import CODES, pair, parameters
from timing import report
from zeuxis.checkpoint import Model, load_model
from zeuxis.data import Split, open_dataset
from zeuxis.evaluation import evaluate
from zeuxis.families.base import TrainingConfig
from zeuxis.images import grid, save_png, to_float
from zeuxis.sampling import Sampler, render_options
from zeuxis.steps import learning_rate

BATCH = 64


def train(model: str, seed: int, asked: argparse.Namespace, out: Path) -> Model:
    """The finished model."""
    length = ["--kimg", str(asked.kimg)] if asked.kimg else ["--budget", f"{asked.minutes * 60}s"]
    command = [sys.executable, "-m", "zeuxis", "train", asked.data, "--model", model, *length, "--seed", str(seed)]
    subprocess.run([*command, "--out", str(out), *asked.extra], check=True, stdout=subprocess.DEVNULL)
    return load_model(max(out.iterdir()))


def samples(asked: argparse.Namespace, seed: int, out: Path) -> Model:
    dataset, values = open_dataset(asked.data), {}
    models = {name: train(name, seed, asked, out / name.replace("/", "-")) for name in (asked.tokens, asked.vae)}
    for name, model in models.items():
        options = render_options(model, temperature=asked.temperature) if name == asked.tokens else None
        pictures = np.concatenate(list(Sampler(model)(range(asked.num), options=options)))
        rows = evaluate([pictures], dataset, num=asked.num, metrics=("fd", "kid", "pr", "dc"))
        rows = [row for row in rows if row.reference == "test"]  # there is one for training pictures beside it
        row = {row.metric: round(row.value, 5) for row in rows}
        row |= {f"{row.metric}_floor": round(row.floor, 5) for row in rows if row.floor is not None}
        values[name] = next(row.value for row in rows if row.metric.startswith("fd"))
        report(f"{asked.data}, samples of {name}", seed=seed, minutes=asked.minutes, **row)
        if asked.sheets:
            asked.sheets.mkdir(parents=True, exist_ok=True)
            sheet = grid(pictures[:100].transpose(0, 2, 3, 1), scale=2)
            save_png(sheet, asked.sheets / f"{name.replace('/', '-')}-{seed}.png")
    report(f"{asked.data}, Fréchet distance of {asked.tokens} against {asked.vae}", seed=seed, minutes=asked.minutes,
           ratio=round(values[asked.tokens] / values[asked.vae], 4))  # fmt: skip
    return models[asked.tokens]


@torch.inference_mode()
def tokens_of(model: Model, split: Split, most: int) -> Tensor:
    """Tokens int64 `[N, h, w]` of the first pictures of a split."""
    stage = model.family.stages()[-1]
    parts = []
    for start in range(0, min(most, len(split)), 256):
        images = to_float(torch.from_numpy(split.take(np.arange(start, min(start + 256, most, len(split))))))
        parts.append(model.family.codes(stage, model.networks, images, None))
    return torch.cat(parts).long()


def fit(
    network: nn.Module, logits: Callable[[Tensor], Tensor], train: Tensor, test: Tensor, steps: int, seed: int
) -> float:
    """Trains by `steps` batches; nats per token on the test tokens."""
    schedule = TrainingConfig(learning_rate=2e-3, warmup=0.02)
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-3, betas=(0.9, 0.95))
    order = torch.Generator().manual_seed(seed)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = learning_rate(schedule, step / steps)
        batch = train[torch.randint(len(train), (BATCH,), generator=order)]
        loss = F.cross_entropy(logits(batch).flatten(0, 1), batch.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.inference_mode():
        sums = [F.cross_entropy(logits(part).flatten(0, 1), part.flatten(), reduction="sum")
                for part in test.split(256)]  # fmt: skip
    return float(torch.stack(sums).sum()) / test.numel()


def prior(asked: argparse.Namespace, seed: int, model: Model) -> None:
    dataset = open_dataset(asked.data)
    train, test = tokens_of(model, dataset.train, 10**9), tokens_of(model, dataset.test, 10_000)
    shape = int(train.shape[1]), int(train.shape[2])
    torch.manual_seed(seed)
    ours, peer = pair(shape, asked.width)

    def before(tokens: Tensor) -> Tensor:
        return F.pad(tokens.flatten(1), (1, 0), value=CODES)[:, :-1]

    own = fit(ours, lambda tokens: ours(tokens, None), train, test, asked.steps, seed)
    other = fit(peer, lambda tokens: peer(before(tokens)), train, test, asked.steps, seed)
    report(f"{asked.data}, nats per token of the prior against a Transformer", seed=seed, steps=asked.steps,
           nats_ours=round(own, 5), nats_peer=round(other, 5), ratio=round(own / other, 4),
           parameters=[parameters(ours), parameters(peer)],
           parameters_in_products=[parameters(ours, False), parameters(peer, False)])  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--kimg", type=float, help="instead of minutes")
    parser.add_argument("--steps", type=int, default=5000, help="of `prior`")
    parser.add_argument("--width", type=int, default=128, help="of both priors")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--num", type=int, default=10_000)
    parser.add_argument("--tokens", default="tokens/small")
    parser.add_argument("--vae", default="vae", help="the VAE that is compared with")
    parser.add_argument("--data", default="fashion-mnist", help="digits are quick: to see that it works")
    parser.add_argument("--temperature", type=float, default=1.0)
    parser.add_argument("--sheets", type=Path, help="folder for a sheet of samples of each")
    parser.add_argument("--only", choices=["samples", "prior"], help="one of the two")
    parser.add_argument("--model", type=Path, help="of `--only prior`: a model folder whose codec makes the tokens")
    parser.add_argument("--extra", nargs=argparse.REMAINDER, default=[], help="more options for `zeuxis train`")
    asked = parser.parse_args()
    for seed in range(asked.seeds):
        with tempfile.TemporaryDirectory() as temporary:
            if asked.only == "prior":
                model = load_model(asked.model) if asked.model else train(asked.tokens, seed, asked, Path(temporary))
            else:
                model = samples(asked, seed, Path(temporary))
            if asked.only != "samples":
                prior(asked, seed, model)


if __name__ == "__main__":
    main()
