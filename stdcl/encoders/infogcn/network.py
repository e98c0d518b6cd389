"""InfoGCN: self-attention graph convolution and an information bottleneck (Chi et al., CVPR 2022, and its public code).

The relative-position modes of its paper are streams of the data; the encoder takes what it is given. Inside, tensors
are channels-last with frames first, (B, T, V, C) with B = N M.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stdcl.encoders.base import Encoder, EncoderOutput, Layout
from stdcl.encoders.framewise import InputNorm, Projection, as_map, pool
from stdcl.encoders.keyed import keyed_normal
from stdcl.encoders.layers import Pointwise, convolve
from stdcl.encoders.precision import own_precision
from stdcl.encoders.temporal import MultiScale
from stdcl.errors import UserError
from stdcl.kernels.check import recording
from stdcl.parallel.batch_norm import BatchNorm
from stdcl.parallel.comm import Comm
from stdcl.taps import GRAPH, block_tap

EMBEDDING = 64
# (channels in, channels out, stride over frames) of the nine blocks.
PLAN: tuple[tuple[int, int, int], ...] = (
    (64, 64, 1),
    (64, 64, 1),
    (64, 64, 1),
    (64, 128, 2),
    (128, 128, 1),
    (128, 128, 1),
    (128, 256, 2),
    (256, 256, 1),
    (256, 256, 1),
)
LATENT = 256
TIME_AXIS = 1
HEAD_SHARE = 8
LARGEST_DEVIATION = 100.0
_SITE_NOISE = 0
# A chunk's attention maps stay in the cache of a CPU core; a GPU takes all frames at once.
FRAMES_AT_ONCE = 128


class SelfAttentionGraph(nn.Module):
    """The spatial part of a block (paper, section 4.2): attention among a frame's joints, times a learned topology.

    With q, k maps of the normalised input, d = Cin / 8 wide a head, and
    ``G_h = softmax_w(q_u . k_w / sqrt(d)) topo_h``, joint u receives
    ``sum_h W_h sum_w G_h[u, w] x_w``; then ``ReLU(BN(.) + shortcut(x))``.
    """

    def __init__(self, channels_in: int, channels_out: int, num_joints: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.head_width = channels_in // HEAD_SHARE
        self.topo = nn.Parameter(torch.eye(num_joints).repeat(heads, 1, 1))
        self.ln = nn.LayerNorm(channels_in)
        self.qk = nn.Linear(channels_in, 2 * heads * self.head_width)
        nn.init.normal_(self.qk.weight)
        for head in range(heads):
            layer = Pointwise(channels_in, channels_out)
            nn.init.normal_(layer.weight, 0.0, math.sqrt(2.0 / (channels_out * channels_in * heads)))
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)
            self.add_module(f"h{head}", layer)
        self.down = None if channels_in == channels_out else Projection(channels_in, channels_out)
        self.bn = BatchNorm(channels_out)
        nn.init.constant_(self.bn.weight, 1e-6)

    def forward(self, x: Tensor, taps: dict[str, Tensor] | None = None) -> Tensor:
        """Map (B, T, V, Cin) to (B, T, V, C); put the frames' mean of ``q_u . k_w / sqrt(d)`` (B, H, V, V) into
        ``taps``, if given."""
        b, t, v, c = x.shape
        half = self.heads * self.head_width
        # On the small weights rather than on the scores: 1 / sqrt(head width).
        scale = torch.ones_like(self.qk.bias)
        scale[:half] = self.head_width**-0.5
        qk = convolve(self.ln(x), (self.qk.weight * scale[:, None])[:, :, None, None], self.qk.bias * scale)
        with own_precision(x):
            dtype = self.topo.dtype
            if taps is not None:
                taps[GRAPH] = self._mean_scores(qk.to(dtype))
            mixed: Tensor = _Mix.apply(  # type: ignore[no-untyped-call]
                qk.to(dtype).reshape(b * t, v, 2 * half), x.to(dtype).reshape(b * t, v, c), self.topo
            )
        layers = [self.get_submodule(f"h{head}") for head in range(self.heads)]
        weight = torch.cat([layer.weight for layer in layers if isinstance(layer, Pointwise)], dim=1)
        bias = torch.stack([layer.bias for layer in layers if isinstance(layer.bias, Tensor)]).sum(0)
        y = convolve(mixed.view(b, t, v, self.heads * c), weight, bias)
        shortcut = x if self.down is None else self.down(x)
        out: Tensor = self.bn(y, shortcut, relu=True)
        return out

    def _mean_scores(self, qk: Tensor) -> Tensor:
        b, t, v, _ = qk.shape
        q, k = qk.view(b, t, v, 2, self.heads, self.head_width).permute(3, 0, 4, 2, 1, 5).flatten(4)  # (B, H, V, T d)
        return torch.matmul(q, k.transpose(2, 3)) / t


class _Mix(torch.autograd.Function):
    """qk (F, V, 2 H d), x (F, V, C), topology (H, V, V) -> the heads' mixed features side by side (F, V, H C)."""

    @staticmethod
    def forward(ctx: Any, qk: Tensor, x: Tensor, topology: Tensor) -> Tensor:
        frames, v, c = x.shape
        heads = topology.shape[0]
        whole = recording()
        step = frames if whole else FRAMES_AT_ONCE if x.device.type == "cpu" else max(frames, 1)
        out = x.new_empty((frames, v, heads, c))
        saved: list[Tensor] = []
        for start in (0,) if whole else range(0, frames, step):
            part = qk[start : start + step]
            count = part.shape[0]
            q, k = part.view(count, v, 2, heads, -1).permute(2, 0, 3, 1, 4).contiguous().view(2, count * heads, v, -1)
            attention = _attention(torch.bmm(q, k.transpose(1, 2))).view(count, heads, v, v)
            mixed = torch.bmm((attention * topology).view(count, heads * v, v), x[start : start + step])
            out[start : start + step].copy_(mixed.view(count, heads, v, c).transpose(1, 2))
            saved += [q, k, attention]
        ctx.save_for_backward(x, topology, *saved)
        ctx.step = step
        ctx.width = qk.shape[-1] // (2 * heads)
        return out.view(frames, v, heads * c)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        x, topology, *saved = ctx.saved_tensors
        frames, v, c = x.shape
        heads = topology.shape[0]
        grad_out = gradients[0].view(frames, v, heads, c)
        grad_x = torch.empty_like(x)
        grad_topology = torch.zeros_like(topology)
        width = ctx.width
        grad_qk = x.new_empty((frames, v, 2, heads, width))
        for index, start in enumerate(range(0, frames, ctx.step)):
            q, k, attention = saved[3 * index : 3 * index + 3]
            count = attention.shape[0]
            grad = grad_out[start : start + ctx.step].transpose(1, 2).reshape(count, heads * v, c)
            graph = (attention * topology).view(count, heads * v, v)
            torch.bmm(graph.transpose(1, 2), grad, out=grad_x[start : start + ctx.step])
            grad_graph = torch.bmm(grad, x[start : start + ctx.step].transpose(1, 2)).view(count, heads, v, v)
            grad_topology += (grad_graph * attention).sum(0)
            grad_scores = torch._softmax_backward_data(grad_graph.mul_(topology), attention, -1, attention.dtype)
            grad_scores = grad_scores.view(count * heads, v, v)
            into = grad_qk[start : start + ctx.step].permute(2, 0, 3, 1, 4)
            into[0].copy_(torch.bmm(grad_scores, k).view(count, heads, v, width))
            into[1].copy_(torch.bmm(grad_scores.transpose(1, 2), q).view(count, heads, v, width))
        return grad_qk.view(frames, v, 2 * heads * width), grad_x, grad_topology


def _attention(scores: Tensor) -> Tensor:
    """Softmax over the last axis; a share below the square of the machine precision is zero.

    q and k start large (weights from N(0, 1)), so many shares are tiny. They change no result, but forward and backward
    they make subnormal numbers, on which a CPU's matrix products are ten times slower.
    """
    shares = torch.softmax(scores, dim=-1)
    return torch.threshold_(shares, torch.finfo(shares.dtype).eps ** 2, 0.0)


class Block(nn.Module):
    """``ReLU(ReLU(tcn(gcn(x))) + res(x))``."""

    def __init__(self, channels_in: int, channels_out: int, stride: int, num_joints: int, heads: int) -> None:
        super().__init__()
        self.gcn = SelfAttentionGraph(channels_in, channels_out, num_joints, heads)
        self.tcn = MultiScale(channels_out, channels_out, stride, TIME_AXIS, kaiming=False)
        same = channels_in == channels_out and stride == 1
        self.res = None if same else Projection(channels_in, channels_out, stride, kaiming=False)

    def forward(self, x: Tensor, taps: dict[str, Tensor] | None = None) -> Tensor:
        """Map (B, T, V, Cin) to (B, T', V, C); put the graph into ``taps``, if given."""
        inner = self.tcn(self.gcn(x, taps), relu=True)
        return F.relu(inner + (x if self.res is None else self.res(x)))


class InfoGCN(Encoder):
    """InfoGCN for ``layout``: embedding, nine blocks, and a latent vector z that the classifier reads.

    In training z is drawn from N(mu, sigma^2) with ``sigma = min(exp(noise_ratio logvar), 100)``, each sequence's noise
    being a function of its key; in evaluation z = mu. ``pooled`` of the output is z. The priors of the classes' means
    are a buffer, so a checkpoint holds them.

    Parameter names: ``pos``, ``emb``, ``in_bn``, ``b1`` ... ``b9`` with ``gcn`` (``topo``, ``ln``, ``qk``, ``h0`` ...,
    ``down``, ``bn``), ``tcn`` and ``res``, then ``fc``, ``mu``, ``logvar``, ``dec``.

    Args:
        layout: shape of the sequences.
        heads: attention heads of each block.
        noise_ratio: factor of logvar in the exponent.
        prior_gain: length of the priors, which are orthogonal to each other.
        weight_class_mmd: weight of the distance between the class means of z and their priors.
        weight_mean_mmd: weight of the length of the batch mean of z.

    Raises:
        UserError: if there are more classes than the latent vector has dimensions.
    """

    offered_taps = (*(block_tap(index) for index, _ in enumerate(PLAN, start=1)), GRAPH)

    priors: Tensor

    def __init__(
        self,
        layout: Layout,
        *,
        heads: int = 3,
        noise_ratio: float = 0.5,
        prior_gain: float = 3.0,
        weight_class_mmd: float = 0.1,
        weight_mean_mmd: float = 1e-4,
    ) -> None:
        super().__init__(layout)
        if layout.num_classes > LATENT:
            raise UserError(f"InfoGCN: {layout.num_classes} classes; its orthogonal priors allow at most {LATENT}")
        self.noise_ratio = noise_ratio
        self.weight_class_mmd = weight_class_mmd
        self.weight_mean_mmd = weight_mean_mmd
        self.emb = nn.Linear(3, EMBEDDING)
        self.pos = nn.Parameter(torch.randn(1, layout.num_joints, EMBEDDING))
        self.in_bn = InputNorm(layout.num_persons, layout.num_joints, EMBEDDING)
        for index, (channels_in, channels_out, stride) in enumerate(PLAN, start=1):
            self.add_module(f"b{index}", Block(channels_in, channels_out, stride, layout.num_joints, heads))
        self.fc = nn.Linear(PLAN[-1][1], LATENT)
        self.mu = nn.Linear(LATENT, LATENT)
        self.logvar = nn.Linear(LATENT, LATENT)
        self.dec = nn.Linear(LATENT, layout.num_classes)
        for layer in (self.fc, self.mu, self.logvar):
            nn.init.xavier_uniform_(layer.weight, gain=nn.init.calculate_gain("relu"))
        nn.init.normal_(self.dec.weight, 0.0, math.sqrt(2.0 / layout.num_classes))
        priors = torch.empty(layout.num_classes, LATENT)
        self.register_buffer("priors", nn.init.orthogonal_(priors, gain=prior_gain))

    @property
    def blocks(self) -> list[Block]:
        """The nine blocks in order."""
        return [block for block in self.children() if isinstance(block, Block)]

    def forward(self, x: Tensor, *, keys: Tensor | None = None, labels: Tensor | None = None) -> EncoderOutput:
        self.check_input(x)
        embedded = self.emb(x.permute(0, 4, 2, 3, 1)) + self.pos  # (N, M, T, V, 64)
        features = self.in_bn(embedded.permute(0, 4, 2, 3, 1))
        persons = self.layout.num_persons
        taps: dict[str, Tensor] = {}
        for index, block in enumerate(self.blocks, start=1):
            last = GRAPH in self.wanted_taps and index == len(PLAN)
            features = block(features, taps if last else None)
            if block_tap(index) in self.wanted_taps:
                taps[block_tap(index)] = as_map(features, persons)
        if GRAPH in taps:
            graph = taps[GRAPH]
            taps[GRAPH] = graph.view(x.shape[0], persons, *graph.shape[1:]).mean(dim=1)
        feature_map, mean = pool(features, persons)
        hidden = F.relu(self.fc(mean))
        latent = self.mu(hidden)
        if self.training:
            if keys is None:
                raise ValueError("InfoGCN's noise in training mode needs the sequences' random keys: pass keys=")
            noise = keyed_normal(keys, _SITE_NOISE, (LATENT,)).to(latent.dtype)
            # Limited before exp: after it, one that overflows has a gradient that is not a number.
            exponent = (self.noise_ratio * self.logvar(hidden)).clamp(max=math.log(LARGEST_DEVIATION))
            deviation = torch.exp(exponent)
            latent = latent + noise * deviation
        return EncoderOutput(self.dec(latent), feature_map, latent, taps)

    def own_losses(self, output: EncoderOutput, labels: Tensor) -> dict[str, Tensor]:
        """Return the two terms of the bottleneck (paper, eq. 6-9, as its public code): ``class_mmd``, ``mean_mmd``.

        ``class_mmd`` is the mean squared difference between the mean of z over each class present and that class's
        prior; ``mean_mmd`` is the Euclidean norm of the batch mean of z. Both with their weights, and both over the
        batch of all ranks that share batch normalisation: every rank returns the same values, and its gradients are
        scaled so that the sum over ranks, each weighted by its share of the batch, is the exact gradient.
        """
        return bottleneck_losses(
            output.pooled,
            labels,
            self.priors,
            class_weight=self.weight_class_mmd,
            mean_weight=self.weight_mean_mmd,
            comm=self.in_bn.comm,
        )


def bottleneck_losses(
    latent: Tensor, labels: Tensor, priors: Tensor, *, class_weight: float, mean_weight: float, comm: Comm
) -> dict[str, Tensor]:
    """Return InfoGCN's loss terms for this rank's latent vectors (n, D), labels (n,) and the priors (K, D)."""
    member = F.one_hot(labels, priors.shape[0]).to(priors.dtype)
    own = member.t() @ latent.to(priors.dtype)
    total = comm.all_reduce(torch.cat([own.detach(), member.sum(0)[:, None]], dim=1))
    counts = total[:, -1]
    sums = own + (total[:, :-1] - own.detach())  # everybody's sums; the gradient flows to this rank's rows
    present = (counts > 0).to(priors.dtype)
    squared = ((sums / counts.clamp(min=1)[:, None] - priors) ** 2).mean(dim=1)
    size = counts.sum().clamp(min=1)
    terms = {
        "class_mmd": class_weight * (squared * present).sum() / present.sum().clamp(min=1),
        "mean_mmd": mean_weight * torch.linalg.vector_norm(sums.sum(0) / size),
    }
    scale = size / max(len(labels), 1)
    return {name: term.detach() + (term - term.detach()) * scale for name, term in terms.items()}
