"""What training minimises: functions (model, x, context, step) -> (B,) nats, and the module that a trainer wraps."""

from collections.abc import Callable

from torch import Tensor, nn

from ancestral.model import Model

__all__ = ["Loss", "Objective", "nll"]

Loss = Callable[[Model, Tensor, Tensor | None, int], Tensor]


def nll(model: Model, x: Tensor, context: Tensor | None, step: int) -> Tensor:
    """Return -log p(x), or an upper bound on it where the model is not exact: (B,) nats.

    Args:
        model: whose likelihood.
        x: (B, *shape).
        context: as the model was built for.
        step: number of the training step, for models that train on something else from step to step (masks of MADE).
    """
    return -model.log_prob(x, context, **model.resampled(step))


class Objective(nn.Module):
    """A loss as a module, because only the `forward` of a wrapped module is synchronised between processes.

    Args:
        model: what is trained.
        loss: of each example.
    """

    def __init__(self, model: Model, loss: Loss = nll) -> None:
        super().__init__()
        self.model, self.loss = model, loss

    def forward(self, x: Tensor, context: Tensor | None, step: int) -> Tensor:
        """Return the loss of each example, (B,) nats."""
        return self.loss(self.model, x, context, step)
