"""A trained CTR-GCN held against the same network of PyTorch's own operations: is a bad number the program's?

    python -m benchmarks.against_plain RUN [--batches 4] [--steps 6]

RUN is the folder of a trained run of one person's sequences by the NW-UCLA loader, with its checkpoint. Prints:

- the test set: how many sequences both networks are right on, and how far their logits are apart;
- training batches from these weights: losses, and how far the gradients of both in float32 are from float64's;
- the first steps of a new training: the same, where each network takes its own steps;
- training sequences drawn by the package, and by the public loader's rule written again with Python's ``random``.
"""

from __future__ import annotations

import argparse
import copy
import math
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from stdcl.data.dataset import Batch, SkeletonDataset
from stdcl.data.sampler import epoch_order, global_batches
from stdcl.encoders.base import Encoder
from stdcl.encoders.ctrgcn.network import CTRGCN
from stdcl.runs.trained import trained
from stdcl.training.components import new_encoder, open_data
from stdcl.training.optim import build_optimizer
from tests.encoders.plain_ctrgcn import PlainCTRGCN

#: Clips in one forward pass outside training.
PART = 58


class Network:
    """The package's encoder, or its plain twin, with the encoder's tensors as they are now."""

    def __init__(self, encoder: Encoder, dtype: torch.dtype | None) -> None:
        self.encoder = encoder if dtype is None else None
        self.dtype = dtype or torch.float32
        self.parameters = dict(encoder.named_parameters())
        if dtype is not None:
            self.parameters = {n: nn.Parameter(p.detach().to(dtype).clone()) for n, p in encoder.named_parameters()}
            self.buffers = {n: b.to(dtype).clone() for n, b in encoder.named_buffers()}

    def logits(self, x: Tensor, training: bool) -> Tensor:
        if self.encoder is not None:
            out: Tensor = self.encoder.train(training)(x).logits
            return out
        return PlainCTRGCN({**self.parameters, **self.buffers}, training).logits(x.to(self.dtype))

    def loss(self, batch: Batch) -> float:
        """The loss in training; its gradients are left in the parameters."""
        for parameter in self.parameters.values():
            parameter.grad = None
        loss = cross_entropy(self.logits(batch.x, training=True), batch.labels)
        loss.backward()
        return loss.item()

    def apart(self, exact: Network) -> float:
        """How far the gradient is from ``exact``'s, in its length."""
        pairs = [(p.grad, exact.parameters[name].grad) for name, p in self.parameters.items()]
        difference = math.fsum(float((a - b).square().sum()) for a, b in pairs if a is not None and b is not None)
        return math.sqrt(difference / math.fsum(float(b.square().sum()) for _, b in pairs if b is not None))


def three(encoder: Encoder) -> tuple[Network, Network, Network]:
    """Return the package's network, the plain one in float32 and the plain one in float64."""
    return Network(encoder, None), Network(encoder, torch.float32), Network(encoder, torch.float64)


def print_step(name: str, losses: list[float], networks: tuple[Network, Network, Network]) -> None:
    ours, plain, exact = networks
    print(
        f"{name}: loss {losses[0]:.7f}, plain {losses[1]:.7f}, plain in float64 {losses[2]:.7f}; "
        f"gradient from float64's: {ours.apart(exact):.1e}, plain {plain.apart(exact):.1e}",
        flush=True,
    )


def right(
    network: Network, make: Callable[[NDArray[np.int64]], Tensor], labels: NDArray[np.int64]
) -> tuple[int, Tensor]:
    """Return how many sequences are classified rightly, and all logits (N, K)."""
    with torch.no_grad():
        parts = np.array_split(np.arange(len(labels)), -(-len(labels) // PART))
        logits = torch.cat([network.logits(make(part), training=False) for part in parts])
    return int((logits.argmax(dim=1) == torch.from_numpy(labels)).sum()), logits


def drawn_again(data: SkeletonDataset, items: NDArray[np.int64], rng: random.Random) -> Tensor:
    """Draw joint sequences (n, 3, T, V, 1) by the public loader's rule (CTR-GCN's for NW-UCLA)."""
    out = []
    for row in data.rows[items % len(data.rows)]:
        x = data.store.sequence(int(row))[:, 0].astype(np.float64)
        a, b = (math.radians(rng.randint(-60, 60)) for _ in range(2))
        about_x = np.array([[1, 0, 0], [0, math.cos(a), math.sin(a)], [0, -math.sin(a), math.cos(a)]])
        about_y = np.array([[math.cos(b), 0, -math.sin(b)], [0, 1, 0], [math.sin(b), 0, math.cos(b)]])
        x = (x - x[0, 1]) @ (about_y @ about_x * rng.uniform(0.5, 1.5))
        low, high = x.min(axis=(0, 1)), x.max(axis=(0, 1))
        frames = sorted(rng.sample([frame for frame in range(len(x)) for _ in range(100)], data.transform.frames))
        out.append((2 * (x[frames] - low) / (high - low) - 1).transpose(2, 0, 1)[..., None])
    return torch.from_numpy(np.stack(out).astype(np.float32))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--batches", type=int, default=4)
    parser.add_argument("--steps", type=int, default=6)
    args = parser.parse_args()
    found = trained(args.run, "last", None)
    encoder, config = found.encoder, found.config
    data = open_data(config)
    fits = data.layout.num_persons == 1 and config.data.stream == "joint" and data.train.transform.loader == "pick"
    if not isinstance(encoder, CTRGCN) or not fits:
        raise SystemExit(f"{args.run}: a CTR-GCN of one person's joint stream by NW-UCLA's loader is expected")
    weights = copy.deepcopy(encoder.state_dict())  # training moves the running statistics

    ours, plain = Network(encoder, None), Network(encoder, torch.float32)
    once, logits = right(ours, lambda part: data.test.batch(0, part).x, data.test.labels)
    again, other = right(plain, lambda part: data.test.batch(0, part).x, data.test.labels)
    apart = float((logits - other).abs().max())
    print(f"test: {once} of {len(data.test)} right, plain {again}; logits apart by {apart:.1e}", flush=True)

    seed, epoch, size = config.training.seed, config.training.epochs, config.training.batch_size
    batches = global_batches(epoch_order(seed, epoch, len(data.train)), size, drop_last=True)
    for number, items in enumerate(batches[: args.batches], start=1):
        encoder.load_state_dict(weights)
        networks = three(encoder)
        batch = data.train.batch(epoch, items)
        print_step(f"{found.checkpoint}, batch {number}", [network.loss(batch) for network in networks], networks)

    rng = random.Random(seed)
    for name, draw in (
        ("the package", lambda part: data.train.batch(epoch, part).x),
        ("the public rule", lambda part: drawn_again(data.train, part, rng)),
    ):
        encoder.load_state_dict(weights)
        labels = data.train.labels[: 2 * len(data.train.rows)]
        print(f"training sequences drawn by {name}: {right(ours, draw, labels)[0]} of {len(labels)} right", flush=True)

    torch.manual_seed(seed)
    networks = three(new_encoder(config, data.layout))
    warm = config.training.model_copy(
        update={"learning_rate": config.training.learning_rate / max(config.training.warmup_epochs, 1)}
    )
    optimizers = [build_optimizer(warm, network.parameters.values()) for network in networks]
    for number, items in enumerate(global_batches(epoch_order(seed, 0, len(data.train)), size, True)[: args.steps], 1):
        batch = data.train.batch(0, items)
        print_step(f"new, step {number}", [network.loss(batch) for network in networks], networks)
        for optimizer in optimizers:
            optimizer.step()


if __name__ == "__main__":
    main()
