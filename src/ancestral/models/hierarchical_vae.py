r"""Hierarchical VAE: "Auto-Encoding Variational Bayes", Kingma & Welling 2013, arXiv 1312.6114.

Latents z_1 .. z_L under x, p(x, z) = p(x|z_1) prod_l p(z_l|z_l+1) p(z_L), trained by a lower bound on log p(x), the
ELBO:

    E_q log p(x|z_1) - sum_l E_q KL(q(z_l|...) || p(z_l|z_l+1))

whose divergences are closed where q(z_l|...) and p(z_l|z_l+1) depend on the same latents. With a posterior of
independent levels, prod q(z_l|x), it is

    E_q(z_1|x) log p(x|z_1) - sum_l<L E_q(z_l+1|x) KL(q(z_l|x) || p(z_l|z_l+1)) - KL(q(z_L|x) || p(z_L)),

a single draw of each level, all from x. The posteriors are values: `MeanField` (the above), `BottomUp` (1509.00519),
`Ladder` (1602.02282), `TopDown` (2011.10650). So are the layers: `Dense`, `Convolutional`, and
`Residual` (2011.10650), in which p(z_l|z_>l) has the place of p(z_l|z_l+1).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ancestral.conditioning import chosen_conditioner, features_of
from ancestral.latents import BottomUp, Dense, Layers, Posterior
from ancestral.latents.posteriors import State, repeated
from ancestral.likelihoods import Bernoulli, Likelihood, Table, check_likelihood, check_sizes
from ancestral.model import Model
from ancestral.models.latent import LatentVariables, chosen_prior
from ancestral.walk import Walk, map_factors

CLIP = 0.001  # of the means that the output layer begins with (1509.00519)


class HierarchicalVAE(LatentVariables, Model):
    """A hierarchy of Gaussian latents under values that are independent given z_1.

    Args:
        shape: (D,), (C, T) or (C, H, W).
        likelihood: of a position.
        latents: variables of each level, z_1 first; channels where `network` is of maps.
        network: the layers, such as `Dense(hidden=(200, 100))`.
        posterior: `MeanField()`, `BottomUp()`, `Ladder()` or `TopDown()`.
        prior: a continuous model of the top latent, such as a MADE, instead of a Gaussian.
        classes: number of classes, for a class-conditional model.
        conditioner: what turns another context into features (B, F), instead of `classes`.

    Raises:
        ValueError: an argument is out of range, or does not fit another one.
    """

    def __init__(
        self,
        *,
        shape: tuple[int, ...],
        likelihood: Likelihood = Bernoulli(),  # noqa: B008 (a frozen value)
        latents: tuple[int, ...] = (100, 50),
        network: Layers = Dense(),  # noqa: B008
        posterior: Posterior = BottomUp(),  # noqa: B008
        prior: Model | None = None,
        classes: int | None = None,
        conditioner: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.shape, self.likelihood = check_sizes("shape", shape), check_likelihood(likelihood)
        self.conditioner = chosen_conditioner(classes, conditioner)
        self.posterior = posterior
        told, outputs = features_of(self.conditioner), likelihood.features(1 if len(shape) == 1 else shape[0])
        self.network = network.build(self.shape, check_sizes("latents", latents), posterior, told, outputs)
        self.prior = chosen_prior(prior, self.network, self.conditioner)

    def log_px(self, x: Tensor, state: State, counted: Tensor | None = None) -> Tensor:
        params = self.network.observe(state)
        times = len(params) // max(1, len(x))
        several = repeated(x, times)
        terms = self.likelihood.log_probs(params, several if x.dim() > 2 else several[:, None]).view(several.shape)
        if counted is not None:
            terms = torch.where(repeated(counted.expand_as(x), times), terms, 0)
        return terms.flatten(1).sum(1)

    def observed(self, batch: int, state: State) -> Walk:
        return map_factors(self.likelihood, self.network.observe(state), self.shape)

    def places(self, shape: tuple[int, ...] | None = None) -> list[tuple[int, ...]]:
        """Return where the factors of x go: one for each channel, of all positions."""
        self.check_shape(tuple(shape or self.shape))
        return [()] if len(self.shape) == 1 else [(c,) for c in range(self.shape[0])]

    def initialize(self, x: Tensor, context: Tensor | None = None) -> None:
        """Tell the layers what x is like; a table begins with the frequencies of its levels (1509.00519)."""
        self.check_shape(tuple(self.check(x).shape[1:]))
        self.network.begin(self.likelihood.scale(x), first_outputs(x, self.likelihood))

    def receptive_field(self, at: tuple[int, ...]) -> Tensor:
        """Return which values the network sees at a place: none, for given the latents all are independent."""
        return torch.zeros(self.shape, dtype=torch.bool)


def first_outputs(x: Tensor, likelihood: Likelihood) -> Tensor | None:
    """Return the outputs (P, *positions) of a table that says how frequent levels are in x; None of a density."""
    if not isinstance(likelihood, Table) or likelihood.couples_channels:
        return None
    x = x if x.dim() > 2 else x[:, None]
    log_p = F.one_hot(x.long(), likelihood.levels).float().mean(0).clamp(CLIP, 1 - CLIP).log().movedim(-1, 1)
    return (log_p if likelihood.width > 1 else log_p.diff(dim=1)).flatten(0, 1)
