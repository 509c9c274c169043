"""A step of a walk as one compiled graph, where there is a compiler, and as a CUDA graph on a GPU; as it is, elsewhere.

A CUDA graph repeats what a step has launched, on the same memory, at the price of one launch: no Python runs. So what
a step reads and changes must lie where it lay: the memory and the position of a cursor do, inputs are copied to where
the first ones lay. What Python decides is decided for ever: the phase of the cursor, of which each has its own graph.
"""

import logging
from collections.abc import Callable
from inspect import signature
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ancestral.causal import Cursor

__all__ = ["Capture", "captured", "cuda_graph", "graphed"]

Capture = Callable[[Callable[[], Any]], tuple[Callable[[], None], Any]]

log = logging.getLogger("ancestral")


def captured(step: Callable[..., Any], device: torch.device) -> Callable[..., Any]:
    """Return a function of tensors as one graph without a break, compiled when it is first called.

    On a CPU the whole graph becomes one C++ library: what a step costs is then its arithmetic, not its dispatch. That
    takes from ten seconds to a minute once, and torch keeps it on disk. On a GPU it may be `graphed` besides. Where
    nothing can be compiled (there is no C++ compiler) a warning says so, and the function runs as it is.

    Args:
        step: maps tensors of fixed shapes to tensors. Memory that it changes exists before the first call.
        device: of the tensors.
    """
    # without the C++ wrapper every operator of a CPU graph is still called from Python
    how: dict[str, Any] = {"fullgraph": True, "dynamic": False, "options": {"cpp_wrapper": device.type == "cpu"}}
    if "isolate_recompiles" in signature(torch.compile).parameters:
        how["isolate_recompiles"] = True  # torch keeps eight graphs of one function, and then takes no more
    run = torch.compile(step, **how)

    def first_compiled(*inputs: Any) -> Any:
        nonlocal run
        if run is step:
            return step(*inputs)
        try:
            return run(*inputs)
        except (torch._dynamo.exc.BackendCompilerFailed, torch._dynamo.exc.FailOnRecompileLimitHit) as error:
            log.warning("nothing is compiled, sampling goes on as it is: %s", str(error).partition("\n")[0])
            run = step
            return step(*inputs)

    return first_compiled


def cuda_graph(work: Callable[[], Any]) -> tuple[Callable[[], None], Any]:
    """Return what repeats on the GPU what some work launches, and what the work returned: the result of a repetition.

    It is captured, not done: nothing has changed before the first repetition.
    """
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = work()
    return graph.replay, result


class Captured(NamedTuple):
    """A step of one phase.

    Attributes:
        inputs: where it reads them.
        replay: does it.
        outputs: where it writes them.
        after: the phase of the cursor after it.
    """

    inputs: Any
    replay: Callable[[], None]
    outputs: Any
    after: tuple[int, ...]


def graphed(step: Callable[..., Any], cursor: Cursor, capture: Capture = cuda_graph) -> Callable[..., Any]:
    """Return a step that is captured when the cursor comes to its phase for the second time, and from then on repeated.

    The first time, in which memory is allocated and libraries are loaded, it is done as it is. The second time it is
    captured and then repeated once, so that every call is one step.

    Args:
        step: maps tensors, tuples of them or None to such, always of the same shapes. It may change the cursor and
            tensors of its own in place, asks no tensor for its value, and draws no random numbers.
        cursor: that the step moves.
        capture: what makes a graph of some work.
    """
    graphs: dict[tuple[int, ...], Captured | None] = {}

    def run(*inputs: Any) -> Any:
        phase = cursor.phase
        if phase not in graphs:
            graphs[phase] = None
            return step(*inputs)
        graph = graphs[phase]
        if graph is None:
            places = copied(inputs)
            replay, outputs = capture(lambda: step(*places))
            graph = graphs[phase] = Captured(places, replay, outputs, cursor.phase)
        else:
            fill(graph.inputs, inputs)
        graph.replay()
        cursor.phase = graph.after
        return copied(graph.outputs)

    return run


def copied(values: Any) -> Any:
    """Return copies of tensors in tuples, of what is None itself."""
    if isinstance(values, tuple):
        return tuple(map(copied, values))
    return values if values is None else values.clone()


def fill(places: Any, values: Any) -> None:
    """Copy tensors in tuples to where others lie."""
    if isinstance(places, Tensor):
        places.copy_(values)
    elif places is not None:
        for place, value in zip(places, values, strict=True):
            fill(place, value)
