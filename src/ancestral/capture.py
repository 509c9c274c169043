"""A step of a walk as one compiled graph, where there is a compiler; as it is, elsewhere."""

import logging
from collections.abc import Callable
from inspect import signature
from typing import Any

import torch

__all__ = ["captured"]

log = logging.getLogger("ancestral")


def captured(step: Callable[..., Any], device: torch.device) -> Callable[..., Any]:
    """Return a function of tensors as one graph without a break, compiled when it is first called.

    On a CPU the whole graph becomes one C++ library: what a step costs is then its arithmetic, not its dispatch. That
    takes from ten seconds to a minute once, and torch keeps it on disk. On a GPU it is compiled, but not captured as
    a CUDA graph. Where nothing can be compiled (there is no C++ compiler) a warning says so, and the
    function runs as it is.

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
