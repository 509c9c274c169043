"""WaveNet: what its paper says, the walk in constant memory, and the stream."""

import functools
import logging
import math
import subprocess
import sys

import pytest
import torch

import ancestral.capture
from ancestral import conditioning, likelihoods
from ancestral.causal import Cursor
from ancestral.conditioning import Frames, Vector, factors_of
from ancestral.likelihoods import Categorical, DiscretizedLogisticMixture, GaussianMixture
from ancestral.models import WaveNet
from ancestral.stream import stream
from ancestral.testing import check_model, randomized, tiny
from ancestral.walk import Observe, Sample, drive, nothing_before, with_ones

COMPILE = torch.compile

HEADS = {
    "binary": likelihoods.Bernoulli(),
    "mu-law": Categorical(256),
    "16 bit": DiscretizedLogisticMixture(65536, 3),
    "logistic": likelihoods.LogisticMixture(3),
    "gaussian": GaussianMixture(2),
}
CONDITIONERS = {
    "none": None,
    "class": conditioning.OneHot(classes=3),
    "vector": Vector(features=4),
    "frames": Frames(channels=3, hop=4, features=5),
    "repeated": Frames(channels=3, hop=5, features=5, repeat=True),
}


@pytest.mark.parametrize("channels", [1, 2], ids=["mono", "stereo"])
@pytest.mark.parametrize("head", HEADS)
def test_the_contract_of_every_head(head, channels):
    check_model(WaveNet(shape=(channels, 11), likelihood=HEADS[head], channels=6, layers=3, cycle=2))


@pytest.mark.parametrize("conditioner", CONDITIONERS.values(), ids=CONDITIONERS)
@pytest.mark.parametrize("kernel_size", [2, 3])
def test_the_contract_of_every_condition(conditioner, kernel_size):
    head = Categorical(5)
    check_model(
        WaveNet(
            shape=(1, 20),
            likelihood=head,
            channels=6,
            layers=3,
            kernel_size=kernel_size,
            skip=5,
            conditioner=conditioner,
        )
    )


def test_one_layer_one_step():
    check_model(WaveNet(shape=(2, 1), likelihood=Categorical(3), channels=4, layers=1, cycle=1))


@pytest.mark.parametrize(("layers", "reach"), [(10, 1024), (20, 2047), (30, 3070), (40, 4093), (50, 5116)])
def test_the_receptive_field_of_the_paper(layers, reach):
    """R = 1 + sum of the dilations (table of the paper's configurations); the first convolution adds a step."""
    assert WaveNet(shape=(1, 4), layers=layers, channels=2).reach == reach + 1


@pytest.mark.parametrize("kernel_size", [2, 3])
def test_reach_is_what_is_seen(kernel_size):
    model = randomized(WaveNet(shape=(1, 60), channels=5, layers=5, cycle=3, kernel_size=kernel_size).double())
    x = torch.randint(256, (1, 1, 60)).double().requires_grad_()
    (gradient,) = torch.autograd.grad(model.log_probs(x)[0, 0, 59], x)
    seen = gradient[0, 0].nonzero().flatten()
    assert seen.min() == 59 - model.reach
    assert model.receptive_field((0, 59))[0].nonzero().min() == 59 - model.reach


def test_parameters_of_a_known_size():
    """24 layers of 64 channels are 0.6 million weights."""
    count = sum(p.numel() for p in WaveNet(shape=(1, 9), channels=64, layers=24).parameters())
    assert 0.6e6 < count < 0.62e6


def test_the_scale_of_what_goes_through_at_initialisation():
    model = WaveNet(shape=(1, 4000), layers=40)
    x = torch.randint(256, (1, 1, 4000))
    logits = model(x)
    assert 0.01 < logits.std() < 3


def test_a_class_and_a_sequence_are_heard():
    by_class = randomized(WaveNet(shape=(1, 30), channels=6, layers=3, classes=3))
    x = by_class.sample(1, 0)
    assert (by_class.log_prob(x, torch.tensor([0])) - by_class.log_prob(x, torch.tensor([1]))).abs() > 1e-3
    framed = randomized(WaveNet(shape=(1, 30), channels=6, layers=3, conditioner=Frames(channels=2, hop=8)))
    frames = torch.randn(1, 2, 4)
    other = frames.clone()
    other[:, :, 2] += 1
    changed = (framed.log_probs(x, frames) - framed.log_probs(x, other))[0, 0] != 0
    assert changed.nonzero().min() == 16  # frame m is of the steps from m hop on


def test_frames_in_a_window_are_those_of_the_whole():
    frames = Frames(channels=2, hop=12, features=3).double()
    context = torch.randn(1, 2, 9).double()
    torch.testing.assert_close(frames(context)[:, :, 36:72], frames(context[:, :, 3:6]))
    assert frames(context).shape == (1, 3, 108)


def test_factors_multiply_to_the_hop():
    for hop in (1, 2, 7, 64, 100, 160, 256, 275, 300):
        factors = factors_of(hop)
        assert math.prod(factors) == hop
        assert max(factors, default=1) <= 11


def test_initialisation_by_data():
    """A soft sound of 16 bits: inputs of scale one, almost the entropy of a law without a past; never again."""
    torch.manual_seed(0)
    x = (torch.randn(2, 1, 3000) * 300 + 45000).round().long()  # 300 levels of 65536, far from the middle
    model = WaveNet(shape=(1, 3000), likelihood=DiscretizedLogisticMixture(65536), channels=16, layers=6)
    before = -model.log_probs(x).mean().item()
    model.initialize(x)
    inputs = model.first(with_ones(model.likelihood.scale(x)))[:, :, 1:]
    after, best = -model.log_probs(x).mean().item(), math.log(300 * math.sqrt(2 * math.pi * math.e))
    assert inputs.mean((0, 2)).abs().max() < 2  # what the weight of the ones is; not centred it would be near 40
    assert 0.3 < inputs.std((0, 2)).mean() < 3
    assert best - 0.05 < after < best + 0.5 < before - 2
    kept = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.initialize(x // 2)
    assert all(torch.equal(tensor, kept[name]) for name, tensor in model.state_dict().items())


def test_initialisation_by_silence():
    model = WaveNet(shape=(1, 100), channels=4, layers=2)
    model.initialize(torch.full((2, 1, 100), 128))
    assert all(tensor.isfinite().all() for tensor in model.state_dict().values())
    assert model.log_prob(torch.full((1, 1, 100), 128)).isfinite()


# --- the stream


def example(channels=1, conditioner=None, head=None):
    head = head or Categorical(17)
    torch.manual_seed(0)
    model = WaveNet(shape=(channels, 60), likelihood=head, channels=8, layers=4, cycle=3, conditioner=conditioner)
    return randomized(model.double().eval())


def context_of(model, batch, length):
    kind = type(model.conditioner).__name__
    return {
        "NoneType": None,
        "Vector": torch.ones(batch, 4, dtype=torch.float64),
        "Frames": torch.linspace(-1, 1, batch * 3 * -(-length // 4)).double().view(batch, 3, -1),
    }[kind]


@pytest.mark.parametrize("conditioner", ["none", "vector", "frames"])
@pytest.mark.parametrize("channels", [1, 2], ids=["mono", "stereo"])
def test_a_stream_is_the_walk(channels, conditioner):
    """The same uniforms, the same values: sampled at once, step by step, and going on after a past."""
    model = example(channels, CONDITIONERS[conditioner], DiscretizedLogisticMixture(65536, 2))
    context, noise = context_of(model, 2, 60), model.noise(2, (channels, 60), torch.Generator().manual_seed(1))
    walked = drive(model.walk(2, context), Sample(noise))
    assert torch.equal(model.sample(2, context, generator=torch.Generator().manual_seed(1)), walked)
    for known in (1, model.reach - 1, model.reach, 41):
        told = model.told(2, context, known, 60 - known)
        rest = stream(model, noise[:, :, known:].split(7, 2), told, model.past(walked[:, :, :known], 2))
        assert torch.equal(torch.cat(list(rest), 2), walked[:, :, known:])


def test_a_stream_yields_what_is_asked_for():
    model = example(2)
    blocks = list(model.stream(3, steps=20, block=8, generator=torch.Generator().manual_seed(0)))
    assert [block.shape for block in blocks] == [(3, 2, 8), (3, 2, 8), (3, 2, 4)]
    again = torch.cat(list(model.stream(3, steps=20, block=8, generator=torch.Generator().manual_seed(0))), 2)
    assert torch.equal(torch.cat(blocks, 2), again)
    assert list(model.stream(steps=0)) == []
    endless = model.stream(past=torch.zeros(2, 5))
    assert [next(endless).shape[2] for _ in range(30)] == [8] * 30


def test_temperature_zero_is_the_mode():
    model = example()
    x = torch.cat(list(model.stream(steps=24, temperature=0)), 2)
    assert torch.equal(x, model.sample(1, shape=(1, 24), temperature=0))


def test_compiled_blocks_draw_the_same(caplog):
    model = example()
    with caplog.at_level(logging.WARNING, "ancestral"):
        plain, compiled = (
            torch.cat(list(model.stream(2, steps=30, block=4, compiled=c, generator=generator)), 2)
            for c, generator in ((c, torch.Generator().manual_seed(2)) for c in (False, True))
        )
    assert torch.equal(plain, compiled)
    assert not caplog.text


def test_without_a_compiler_sampling_goes_on(monkeypatch, caplog):
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr("torch._inductor.config.cpp.cxx", ("no-such-compiler",))
    monkeypatch.setattr("torch._inductor.config.fx_graph_cache", False)
    model = example()
    with caplog.at_level(logging.WARNING, "ancestral"):
        x = torch.cat(list(model.stream(steps=24, compiled=True, generator=torch.Generator().manual_seed(2))), 2)
    assert "nothing is compiled" in caplog.text
    plain = torch.cat(list(model.stream(steps=24, generator=torch.Generator().manual_seed(2))), 2)
    assert torch.equal(x, plain)
    assert ancestral.capture.captured(torch.neg, torch.device("cpu"))(torch.ones(1)).item() == -1


@functools.wraps(torch.compile)
def compiled_by_nothing(step, options, **more):
    """Traces as torch.compile does, and runs what was traced."""
    return COMPILE(step, backend="eager", **more)


def test_any_number_of_streams_can_be_compiled(monkeypatch, caplog):
    monkeypatch.setattr(torch, "compile", compiled_by_nothing)
    model = example()
    with caplog.at_level(logging.WARNING, "ancestral"):
        for n in range(1, 13):  # more than the graphs that torch keeps of one function
            list(model.stream(n, steps=4, block=2, compiled=True))
    assert not caplog.text


@pytest.mark.parametrize("compiled", [False, True])
def test_streams_do_not_disturb_each_other(compiled, monkeypatch):
    monkeypatch.setattr(torch, "compile", compiled_by_nothing)
    model = example(2, CONDITIONERS["frames"], DiscretizedLogisticMixture(65536, 2))
    contexts = [context_of(model, 1, 24), -context_of(model, 1, 24)]

    def streams():
        seeded = [torch.Generator().manual_seed(seed) for seed in (1, 2)]
        both = zip(contexts, seeded, strict=True)
        return [model.stream(1, c, steps=24, block=4, generator=g, compiled=compiled) for c, g in both]

    alone = [torch.cat(list(one), 2) for one in streams()]
    turns = zip(*streams(), strict=True)
    together = [torch.cat(blocks, 2) for blocks in zip(*turns, strict=True)]
    assert all(torch.equal(a, b) for a, b in zip(alone, together, strict=True))
    assert not torch.equal(*alone)


def test_what_is_streamed_can_be_trained_on():
    model = tiny("wavenet")
    (-model.log_prob(next(model.stream(2))).mean()).backward()
    assert model.first.weight.grad is not None


def test_16_bits_are_not_lost_in_bf16():
    """Under autocast a narrow law far from zero keeps its place: the likelihood is that of float32, nearly."""
    torch.manual_seed(0)
    x = (torch.randn(1, 1, 2000).mul(20).round() + 52000).long()
    model = WaveNet(shape=(1, 2000), likelihood=DiscretizedLogisticMixture(65536, 3), channels=8, layers=3)
    model.initialize(x)
    with torch.no_grad():
        model.out.bias[6:9] = -7.5  # log-scales of 18 levels
        model.out.bias[3:6] = (52000 - 32767.5) / 32767.5
        exact = model.log_prob(x).item() / 2000
        with torch.autocast("cpu", torch.bfloat16):
            rounded = model.log_prob(x).item() / 2000
    assert exact > -6
    assert rounded == pytest.approx(exact, abs=0.05)


def memory_of(model):
    """Return the memory of a walk's cursor after 5 steps and after 500, in numbers."""
    sizes = []
    for steps in (5, 500):
        cursor, told = Cursor(), None
        before = nothing_before(model, torch.zeros(1, 1, 1))
        for _ in range(steps):
            model.steps(before, told, cursor)
            cursor.next_steps(1)
        rings = [ring.steps.numel() for ring in cursor._rings.values()]
        sizes.append(sum(rings) + sum(m.numel() for m in cursor._pixels.values()))
    return sizes


def test_memory_does_not_grow_with_time():
    model = example()
    few, many = memory_of(model)
    assert few == many == (1 + 2 + 4 + 1) * 8 + 2  # a ring of its dilation for each layer, and the first convolution


@pytest.mark.slow
def test_an_hour_holds_no_more_than_a_second():
    """The memory of a process of its own: an hour of steps at 8 kHz of a tiny model, in compiled blocks."""
    script = """
import psutil, torch
from ancestral.models import WaveNet
from ancestral.likelihoods import Bernoulli
torch.set_num_threads(1)
model = WaveNet(shape=(1, 64), likelihood=Bernoulli(), channels=2, layers=2, cycle=2)
process, seen, made = psutil.Process(), [], 0
for block in model.stream(1, block=32, compiled=True):
    made += block.shape[2]
    if made % (8000 * 64) == 0:  # every 64 seconds of sound
        seen.append(process.memory_info().rss)
    if made >= 3600 * 8000:
        break
print(max(seen[1:]) - seen[0])
"""
    grown = int(subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout)
    assert grown < 8 * 2**20


def test_reset_gives_a_new_walk_the_same_memory():
    model = tiny("wavenet")
    cursor = Cursor()

    def run():
        out = []
        for step in torch.ones(9, 1, 2).cumsum(0):
            out.append(model.steps(step, None, cursor))
            cursor.next_steps(1)
        return torch.stack(out)

    first = run()
    places = [ring.steps.data_ptr() for ring in cursor._rings.values()]
    cursor.reset()
    assert torch.equal(run(), first)
    assert [ring.steps.data_ptr() for ring in cursor._rings.values()] == places


def test_counted_values_only():
    """What is not counted is context: the parts of a sequence add up to the whole."""
    model = example()
    x = model.sample(2)
    first = torch.arange(60) < 25
    parts = model.log_prob(x, counted=first) + model.log_prob(x, counted=~first)
    torch.testing.assert_close(parts, model.log_prob(x))
    source = Observe(x)
    drive(model.walk(2), source)
    torch.testing.assert_close(torch.stack(source.log_probs[:25]).sum(0), model.log_prob(x, counted=first))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"shape": (16,)}, r"shape must be \(C, T\), got \(16,\)"),
        ({"channels": 0}, "channels must be an integer of at least 1, got 0"),
        ({"kernel_size": 1}, "kernel_size must be an integer of at least 2, got 1"),
        ({"cycle": 0}, "cycle must be an integer of at least 1, got 0"),
        ({"skip": 0}, "skip must be an integer of at least 1, got 0"),
        ({"layers": 40, "cycle": 40}, "cycle must be less: 40 layers with cycle=40 see 1099511627777 steps"),
        ({"layers": 2.5}, "layers must be an integer of at least 1, got 2.5"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        WaveNet(**{"shape": (1, 16), **arguments})


def test_wrong_input():
    model = tiny("wavenet")
    with pytest.raises(ValueError, match=r"x must have shape \(B, 1, T\), T at least 1, got \(2, 2, 5\)"):
        model.log_prob(torch.zeros(2, 2, 5))
    with pytest.raises(ValueError, match=r"shape must be \(1, T\), got \(2, 5\)"):
        model.sample(1, shape=(2, 5))
    with pytest.raises(ValueError, match="past must hold 3 sequences, got 2"):
        model.stream(3, past=torch.zeros(2, 1, 4))
    with pytest.raises(ValueError, match="block must be an integer of at least 1, got 0"):
        model.stream(block=0)
    framed = WaveNet(shape=(1, 16), channels=4, layers=2, conditioner=Frames(channels=2, hop=4))
    for frames in (3, 5, 8):
        with pytest.raises(ValueError, match=f"context must be for 16 steps, got one for {4 * frames}"):
            framed.sample(1, torch.randn(1, 2, frames))
    with pytest.raises(ValueError, match=r"context must have shape \(B, 2, M\), got \(1, 3, 4\)"):
        framed.sample(1, torch.randn(1, 3, 4))
    with pytest.raises(ValueError, match="steps must be given where the context is a sequence"):
        framed.stream(1, torch.randn(1, 2, 4))
