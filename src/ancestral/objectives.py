"""What training minimises: functions (model, x, context, step) -> (B,) nats, and the module that a trainer wraps.

A loss of windows of recordings takes `counted` too, and is that of the counted values.
"""

import inspect
from collections.abc import Callable

from torch import Tensor, nn

from ancestral.model import Model

__all__ = ["Loss", "Objective", "nll", "takes_windows"]

Loss = Callable[..., Tensor]  # (model, x, context, step), and counted=mask for windows


def nll(model: Model, x: Tensor, context: Tensor | None, step: int, counted: Tensor | None = None) -> Tensor:
    """Return -log p(x), or an upper bound on it where the model is not exact: (B,) nats.

    Args:
        model: whose likelihood.
        x: (B, *shape).
        context: as the model was built for.
        step: number of the training step, for models that train on something else from step to step (masks of MADE).
        counted: bool, broadcast to x: the values that are scored, where these are not all; see `Model.log_prob`.
    """
    return -model.log_prob(x, context, counted=counted, **model.resampled(step))


def takes_windows(loss: Loss) -> bool:
    """Return whether a loss can be told which values of a window are counted."""
    try:
        inspect.signature(loss).bind(None, None, None, 0, counted=None)
    except TypeError:
        return False
    return True


class Objective(nn.Module):
    """A loss as a module, because only the `forward` of a wrapped module is synchronised between processes.

    Args:
        model: what is trained.
        loss: of each example.
    """

    def __init__(self, model: Model, loss: Loss = nll) -> None:
        super().__init__()
        self.model, self.loss = model, loss

    def forward(self, x: Tensor, context: Tensor | None, step: int, counted: Tensor | None = None) -> Tensor:
        """Return the loss of each example, (B,) nats, of its counted values where these are not all."""
        windows = {} if counted is None else {"counted": counted}
        return self.loss(self.model, x, context, step, **windows)
