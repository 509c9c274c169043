r"""WaveNet: "WaveNet: A Generative Model for Raw Audio", van den Oord et al. 2016, arXiv 1609.03499.

Dilated causal convolutions whose dilation doubles from layer to layer see thousands of samples at the price of a few
layers. Each layer is a gated unit with a residual and a skip path:

    z = tanh(W_f * x + V_f' h) . sigma(W_g * x + V_g' h)                                            (equations 2, 3)

where h is the same at all times (a speaker, a class), or a sequence brought to the rate of the samples. The sum of the
skip paths goes through two 1x1 layers to the likelihood: a softmax over 256 mu-law levels as in the paper, or the
mixture of logistics over 65 536 levels of Parallel WaveNet (1711.10433). The input is shifted by one step, so that
every convolution may see its own position.
"""

import itertools
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ancestral.causal import CausalConv1d, Cursor, DilatedStack
from ancestral.conditioning import chosen_conditioner, features_of
from ancestral.likelihoods import Categorical, Likelihood, check_count
from ancestral.model import Model
from ancestral.models.raster import coupled
from ancestral.stream import stream
from ancestral.walk import Walk, sequence_forward, sequence_walk

INITIAL = 1024  # steps of each sequence that the output layer is initialised by
MOST_REACH = 2**20  # steps: a minute at 16 kHz, of which each layer remembers its share
BLOCK = 8  # steps of a compiled block: dispatch no longer counts, and compiling takes less than a minute


class WaveNet(Model):
    """WaveNet over sequences of any length: audio, or any other series, of one channel or several.

    Args:
        shape: (C, T) of a training window.
        likelihood: of a step. Where there are several channels the head couples them.
        channels: features of the residual path.
        layers: gated layers.
        kernel_size: k, taps of a convolution (the paper: 2).
        cycle: layers after which dilations begin again at 1; they are 1, 2, 4, ..., 2^(cycle - 1).
        skip: features of the sum of the skip paths; as many as `channels` by default.
        classes: number of classes (speakers), for a class-conditional model.
        conditioner: what turns another context into features, instead of `classes`: `Frames` for a sequence.

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(
        self,
        *,
        shape: tuple[int, int],
        likelihood: Likelihood = Categorical(256),  # noqa: B008 (a frozen value)
        channels: int = 32,
        layers: int = 20,
        kernel_size: int = 2,
        cycle: int = 10,
        skip: int | None = None,
        classes: int | None = None,
        conditioner: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.shape = check_sequence_shape(shape)
        for name, value, least in (
            ("channels", channels, 1),
            ("layers", layers, 1),
            ("kernel_size", kernel_size, 2),
            ("cycle", cycle, 1),
            ("skip", channels if skip is None else skip, 1),
        ):
            check_count(name, value, least)
        self.likelihood = coupled(likelihood, self.shape[0])
        self.conditioner = chosen_conditioner(classes, conditioner)
        skip = channels if skip is None else skip
        dilations = [2 ** (layer % cycle) for layer in range(layers)]
        self.reach = kernel_size + (kernel_size - 1) * sum(dilations)
        if self.reach > MOST_REACH:
            raise ValueError(f"cycle must be less: {layers} layers with cycle={cycle} see {self.reach} steps")
        self.first = CausalConv1d(self.shape[0] + 1, channels, kernel_size)
        self.stack = DilatedStack(channels, skip, dilations, kernel_size, features_of(self.conditioner))
        self.hidden = CausalConv1d(skip, skip)
        self.out = CausalConv1d(skip, self.likelihood.features(self.shape[0]))

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Map levels (B, C, T) to the likelihood's parameters (B, P, T), in one parallel pass."""
        check_sequence(x, self.shape[0])
        scaled = self.likelihood.scale(x).to(self.dtype)
        return sequence_forward(self, scaled, self.features(context, x.shape[0], x.shape[2]))

    def log_probs(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        check_sequence(self.check(x), self.shape[0])
        return self.likelihood.log_probs(self(x, context), x)

    def initialize(self, x: Tensor, context: Tensor | None = None) -> None:
        """Begin with inputs of mean zero and scale one, and near the best law that knows nothing of the past.

        The paper says nothing of its initialisation. At 16 bits it matters: a soft sound fills a small part of the
        range, and its scale takes long to find. A model that was trained is left alone.
        """
        check_sequence(self.check(x), self.shape[0])
        if bool(self.out.bias.any()):
            return
        with torch.no_grad():
            scaled = self.likelihood.scale(x).to(self.dtype).transpose(0, 1).flatten(1)
            spread = scaled.std(1).clamp(min=1e-3)  # of silence it is zero
            taps = self.first.weight.unflatten(0, (-1, len(spread) + 1))
            taps[:, :-1] /= spread[:, None]
            taps[:, -1] -= (taps[:, :-1] * scaled.mean(1)[:, None]).sum(1)  # of the ones, which padding has not
            self.out.weight.zero_()
        some = torch.randint(x.shape[2], (INITIAL,), device=x.device)
        self.out.bias.data.copy_(best_constant(self.likelihood, x[:, :, some]))

    def steps(self, x: Tensor, told: Tensor | None, cursor: Cursor | None = None) -> Tensor:
        """Map shifted x to parameters; see `SequenceNetwork.steps`."""
        with torch.autocast(x.device.type, enabled=False):  # 16 bits of input and of means are more than bf16 has
            h = self.first(x, cursor)
        h = self.hidden(F.relu(self.stack(h, told, cursor)), cursor)
        with torch.autocast(x.device.type, enabled=False):
            return self.out(F.relu(h).to(x.dtype), cursor)

    def offsets(self, features: Tensor) -> Tensor:
        """Return what the layers add in a step that is told features (B, F): (L, B, 2 channels)."""
        return self.stack.offsets(features)

    def features(self, context: Tensor | int | None, batch: int, length: int) -> Tensor | None:
        """Return the features of a context for sequences of that length: (B, F, 1), or (B, F, T); None without one."""
        context = self.check_context(context, batch)
        if self.conditioner is None:
            return None
        features = self.conditioner(context).to(self.dtype)
        if features.dim() == 2:
            return features[:, :, None]
        if not length <= features.shape[2] < length + getattr(self.conditioner, "hop", 1):
            raise ValueError(f"context must be for {length} steps, got one for {features.shape[2]}")
        return features[:, :, :length]

    def walk(
        self,
        batch: int,
        context: Tensor | None = None,
        x: Tensor | None = None,
        shape: tuple[int, ...] | None = None,
    ) -> Walk:
        """Yield the factors of every step in time, and of every channel within it; see `Model.walk`."""
        values = self.empty(batch, self.size(shape))
        with torch.no_grad():
            features = self.features(context, batch, values.shape[2])
        return sequence_walk(self, values, features)

    def sample(
        self,
        n: int,
        context: Tensor | int | None = None,
        *,
        shape: tuple[int, ...] | None = None,
        temperature: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        noise = self.noise(n, self.size(shape), generator)
        with torch.no_grad():
            features = self.features(context, n, noise.shape[2])
        return torch.cat(list(stream(self, noise.split(BLOCK, 2), features, None, temperature)), 2)

    def stream(
        self,
        n: int = 1,
        context: Tensor | int | None = None,
        *,
        steps: int | None = None,
        past: Tensor | None = None,
        temperature: float = 1.0,
        generator: torch.Generator | None = None,
        block: int = BLOCK,
        compiled: bool = False,
    ) -> Iterator[Tensor]:
        """Yield values as they are made, block by block, in memory that does not grow with time.

        (Of a context that is a sequence the features are held, at the rate of the steps.)

        Args:
            n: how many sequences at once.
            context: as the model was built for; a sequence is of the past and of what follows.
            steps: how many; without end by default.
            past: (n, C, P), or (C, P) for all, what the sequences go on after.
            temperature: T; each factor's pmf to the power 1 / T, renormalised, 0 for the mode.
            generator: of the uniforms.
            block: steps that are made at once, at least 1.
            compiled: makes blocks one compiled graph: several times as fast, after about a minute.

        Yields:
            (n, C, block) levels or floats; the last block may be shorter.
        """
        check_count("block", block, 1)
        check_count("n", n, 1)
        if steps is not None:
            check_count("steps", steps, 0)
        told = self.told(n, context, 0 if past is None else past.shape[-1], steps)
        past = None if past is None else self.past(past, n)
        sizes = itertools.repeat(block) if steps is None else (min(block, steps - t) for t in range(0, steps, block))
        noise = (self.noise(n, (self.shape[0], size), generator) for size in sizes)
        blocks = stream(self, noise, told, past, temperature, compiled)
        return (block.clone() for block in blocks)  # which can be scored with gradients, as those of a walk

    def told(self, n: int, context: Tensor | int | None, known: int, steps: int | None) -> Tensor | None:
        """Return the features of a context of `known` steps, as far as they reach, and of `steps` that follow."""
        if steps is None and hasattr(self.conditioner, "hop"):
            raise ValueError("steps must be given where the context is a sequence, which ends")
        with torch.no_grad():
            features = self.features(context, n, known + (steps or 0))
        if features is None or features.shape[2] == 1:
            return features
        return features[:, :, max(0, known - self.reach) :]

    def past(self, x: Tensor, n: int) -> Tensor:
        """Return as much of the past of n sequences as is seen, (n, C, at most reach)."""
        x = (x if x.dim() == 3 else x[None].expand(n, *x.shape)).to(self.device)
        check_sequence(self.check(x), self.shape[0], least=0)
        if len(x) != n:
            raise ValueError(f"past must hold {n} sequences, got {len(x)}")
        return x[:, :, max(0, x.shape[2] - self.reach) :]

    def size(self, shape: tuple[int, ...] | None) -> tuple[int, int]:
        """Return the shape (C, T) of the sequences to walk over: that of the training windows by default."""
        chosen = check_sequence_shape(self.shape if shape is None else shape)
        if chosen[0] != self.shape[0]:
            raise ValueError(f"shape must be ({self.shape[0]}, T), got {chosen}")
        return chosen

    def receptive_field(self, at: tuple[int, ...]) -> Tensor:
        """Return which values the network sees at (c, t): `reach` steps, and the channels before its own."""
        channel, t = at
        field = torch.zeros(self.shape, dtype=torch.bool)
        field[:, max(0, t - self.reach) : t] = True
        field[:channel, t] = True
        return field


@torch.enable_grad()
def best_constant(likelihood: Likelihood, x: Tensor) -> Tensor:
    """Return the parameters (P,) that are, without any past, the likeliest for all steps of x (B, C, T).

    Nearly so: a few steps leave some probability to what these do not hold.
    """
    start = torch.randn(likelihood.features(x.shape[1]), device=x.device) / 10  # components must differ to part
    params = start.requires_grad_()
    optimizer = torch.optim.Adam([params], 0.1)
    for _ in range(60):
        optimizer.zero_grad()
        everywhere = params[None, :, None].expand(len(x), -1, x.shape[2])
        (-likelihood.log_probs(everywhere, x).mean()).backward()
        optimizer.step()
    return params.detach()


def check_sequence_shape(shape: tuple[int, ...]) -> tuple[int, int]:
    """Return shape as (C, T), or raise ValueError."""
    if not isinstance(shape, tuple | list) or len(shape) != 2:
        raise ValueError(f"shape must be (C, T), got {shape!r}")
    channels, length = (check_count("shape", side, 1) for side in shape)
    return channels, length


def check_sequence(x: Tensor, channels: int, least: int = 1) -> None:
    """Raise ValueError unless x is a batch of sequences (B, C, T) with that many channels, and steps."""
    if x.dim() != 3 or x.shape[1] != channels or x.shape[2] < least:
        raise ValueError(f"x must have shape (B, {channels}, T), T at least {least}, got {tuple(x.shape)}")
