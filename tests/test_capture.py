"""Captured steps: the same samples as those of the walk, with nothing asked of the host.

Without a GPU a `Recording` stands for a CUDA graph: the same operations on the same memory, without Python.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from ancestral.capture import graphed
from ancestral.causal import Cursor
from ancestral.conditioning import Map
from ancestral.likelihoods import Categorical, DiscretizedLogisticMixture
from ancestral.models import WaveNet
from ancestral.models.raster import batches_of, conditioned
from ancestral.stream import block_of, images
from ancestral.testing import tiny
from ancestral.walk import Sample, drive, nothing_before

IMAGES = ("pixelcnn", "row-lstm", "diagonal-bilstm", "gated-pixelcnn", "pixelcnn++", "pixelsnail")
GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU to capture on")


class Recording(TorchDispatchMode):
    """Records operations. Afterwards memory is as it was, as a CUDA graph is captured without being done."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Callable[..., Any], Any, Any, list[tuple[int, Tensor]]]] = []
        self.before: list[tuple[Tensor, Tensor]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        assert func.overloadpacket.__name__ not in ("_local_scalar_dense", "item", "nonzero", "masked_select", "rand")
        for argument, value in zip(func._schema.arguments, args, strict=False):
            if argument.is_write:
                self.before += [(tensor, tensor.clone()) for tensor in tree_leaves(value)]
        out = func(*args, **kwargs)
        old = {place(tensor) for tensor in tree_leaves((args, kwargs)) if isinstance(tensor, Tensor)}
        new = [(i, each) for i, each in enumerate(tree_leaves(out)) if place(each) not in old]
        self.calls.append((func, args, kwargs, new))
        return out

    def replay(self) -> None:
        for func, args, kwargs, new in self.calls:
            found = tree_leaves(func(*args, **kwargs))
            for i, result in new:  # what is no view of its arguments
                result.copy_(found[i])


def place(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def recording(work: Callable[[], Any]) -> tuple[Callable[[], None], Any]:
    """What `cuda_graph` does, on a CPU."""
    with Recording() as recorded:
        result = work()
    for tensor, was in reversed(recorded.before):
        tensor.copy_(was)
    return recorded.replay, result


def image_models(name: str) -> dict[str, tuple[nn.Module, Any]]:
    """Small models of grey and of RGB images, with contexts."""
    torch.manual_seed(0)
    grey, colour = (1, 11, 5), (3, 10, 6)
    mapped = type(tiny(name))(**{**tiny(name, grey).arguments, "classes": None, "conditioner": Map(channels=1)})
    found = {
        "binary": (tiny(name, grey), None),
        "colour": (tiny(name, colour, Categorical(4), classes=3), torch.tensor([1, 2, 0])),
        "mixture": (tiny(name, colour, DiscretizedLogisticMixture(5, components=2)), None),
        "map": (mapped, torch.rand(3, 1, *grey[1:])),
    }
    for model, _ in found.values():
        for p in model.parameters():
            nn.init.normal_(p, std=0.4)
        model.eval()
    return found


@pytest.mark.parametrize("kind", ["binary", "colour", "mixture", "map"])
@pytest.mark.parametrize("name", IMAGES)
def test_captured_rows_draw_what_the_walk_draws(name: str, kind: str) -> None:
    model: Any
    model, context = image_models(name)[kind]
    noise = [torch.rand(3, *model.shape, dtype=torch.float64) for _ in range(3)]
    condition, like = conditioned(model, context, (3, *model.shape)), model.empty(3, model.shape)
    with torch.no_grad():
        captured = list(images(model, noise, like, condition, capture=recording))
    plain = list(batches_of(model, noise, context))
    for u, row_by_row, found in zip(noise, plain, captured, strict=True):
        walked = drive(model.walk(3, context), Sample(u))
        assert torch.equal(row_by_row, walked)
        assert torch.equal(found, walked)
    assert len({tuple(x.flatten().tolist()) for x in captured}) == 3


@pytest.mark.parametrize("name", ["gated-pixelcnn", "pixelcnn++"])
def test_rows_are_captured_once_for_each_phase(name: str) -> None:
    model: Any = tiny(name, (1, 24, 4))
    captures = []

    def counted(work: Callable[[], Any]) -> Any:
        captures.append(work)
        return recording(work)

    noise = [torch.rand(2, *model.shape, dtype=torch.float64) for _ in range(3)]
    phases = {"gated-pixelcnn": 1, "pixelcnn++": 4}[name]
    list(images(model, noise, model.empty(2, model.shape), capture=counted))
    assert len(captures) == phases


def test_captured_blocks_of_a_sequence() -> None:
    torch.manual_seed(0)
    model = WaveNet(shape=(2, 64), likelihood=Categorical(7), channels=6, layers=4, cycle=2).eval()
    noise = torch.rand(3, 2, 48, dtype=torch.float64).split(8, 2)
    plain, cursor = drive(model.walk(3, shape=(2, 48)), Sample(torch.cat(noise, 2))), Cursor()
    with torch.inference_mode():
        before, found = nothing_before(model, noise[0]), []
        run = graphed(lambda *inputs: block_of(model, cursor, 1.0, *inputs, None, None), cursor, recording)
        for uniforms in noise:
            before, values = run(before, uniforms)
            found.append(values)
    assert torch.equal(torch.cat(found, 2), plain)


def test_a_step_that_asks_for_a_value_is_seen() -> None:
    with pytest.raises(AssertionError):
        recording(lambda: torch.ones(2).sum().item())


@GPU
@pytest.mark.parametrize("kind", ["binary", "colour", "mixture", "map"])
@pytest.mark.parametrize("name", IMAGES)
def test_a_gpu_draws_by_graphs_what_it_draws_by_the_walk(name: str, kind: str) -> None:
    model: Any
    model, context = image_models(name)[kind]
    model, context = model.cuda(), None if context is None else context.cuda()
    noise = [torch.rand(3, *model.shape, dtype=torch.float64, device="cuda") for _ in range(3)]
    for u, found in zip(noise, batches_of(model, noise, context), strict=True):
        assert torch.equal(found, drive(model.walk(3, context), Sample(u)))


@GPU
@pytest.mark.slow
def test_a_gpu_streams_by_graphs_what_it_streams_eagerly() -> None:
    torch.manual_seed(0)
    model = WaveNet(shape=(1, 64), likelihood=Categorical(16), channels=8, layers=4).cuda().double().eval()

    def streamed(compiled: bool) -> Tensor:
        generator = torch.Generator("cuda").manual_seed(0)
        return torch.cat(list(model.stream(4, steps=64, generator=generator, compiled=compiled)), 2)

    assert torch.equal(streamed(True), streamed(False))


@pytest.mark.parametrize("kind", ["colour", "mixture"])
@pytest.mark.parametrize("name", IMAGES)
def test_rows_ask_no_device_for_values_and_mix_no_devices(name: str, kind: str) -> None:
    """The device "meta" has shapes and no values: what asks for one, or joins tensors of the CPU, fails."""
    model: Any
    model, context = image_models(name)[kind]
    with torch.no_grad():
        condition = conditioned(model, context, (3, 3, 5, 2))
    noise, like = torch.rand(3, 3, 5, 2, dtype=torch.float64, device="meta"), model.to("meta").empty(3, (3, 5, 2))
    told = tree_map_only(Tensor, lambda c: c.to("meta"), condition)
    (found,) = images(model, [noise], like, told)
    assert found.device.type == "meta"
