r"""PixelVAE: "A Latent Variable Model for Natural Images", Gulrajani et al. 2016, arXiv 1611.05013.

Latents under an autoregressive decoder:

    p(x, z) = prod_t p(x_t | x_<t, z_1)  prod_l p(z_l|z_l+1)  p(z_L),

with the posteriors and layers of `HierarchicalVAE`. The decoder is a conditional model of images: its context is what
the latents are decoded to, feature maps of the size of the image (`Map`), or, "without up-sampling", a vector that
conditions every layer linearly (`Vector`).

What the decoder sees of the image it need not be told: z is used for what its receptive field does not reach
("Variational Lossy Autoencoder", 1611.02731). With a small field z holds what is global; a decoder that sees
everything may leave z out, and then KL(q || p) is near 0.
"""

import torch
from torch import Tensor, nn

from ancestral.conditioning import Map, Vector, chosen_conditioner, features_of
from ancestral.latents import BottomUp, Dense, Layers, Posterior
from ancestral.latents.posteriors import State, repeated
from ancestral.likelihoods import Bernoulli, Likelihood, check_sizes
from ancestral.model import Model
from ancestral.models.gated_pixelcnn import GatedPixelCNN
from ancestral.models.latent import LatentVariables, chosen_prior
from ancestral.models.raster import check_image_shape, coupled
from ancestral.walk import Infer, Walk

LAYERS, KERNEL_SIZE, MAPS = 2, 3, 16  # of a decoder where none is given; the paper: a few layers do


class PixelVAE(LatentVariables, Model):
    """A hierarchy of Gaussian latents under an autoregressive decoder.

    >>> from ancestral import Map, PixelCNN
    >>> decoder = PixelCNN(shape=(1, 8, 8), layers=1, channels=8, conditioner=Map(channels=4))
    >>> model = PixelVAE(shape=(1, 8, 8), latents=(10,), decoder=decoder)
    >>> model.encode(torch.zeros(2, 1, 8, 8)).shape, model.sample(2).shape
    (torch.Size([2, 10]), torch.Size([2, 1, 8, 8]))

    Args:
        shape: (C, H, W), or another one that the decoder has.
        likelihood: of a value.
        latents: variables of each level, z_1 first; channels where `network` is of maps.
        network: the layers between x and the latents, such as `Dense(hidden=(200,))`.
        posterior: `MeanField()`, `BottomUp()`, `Ladder()` or `TopDown()`.
        decoder: an autoregressive model of the same shape and likelihood, with the conditioner `Map(channels=F)` or
            `Vector(features=F)`: `network` then gives it F maps, or F numbers. By default a `GatedPixelCNN` of few
            layers.
        prior: a continuous model of the top latent, such as a MADE, instead of a Gaussian.
        classes: number of classes, for a class-conditional model; the latents are told, and pass it on.
        conditioner: what turns another context into features (B, F), instead of `classes`.

    Raises:
        ValueError: an argument is out of range, or does not fit another one.
    """

    features = 16  # a decoder has many of them at every pixel

    def __init__(
        self,
        *,
        shape: tuple[int, ...],
        likelihood: Likelihood = Bernoulli(),  # noqa: B008 (a frozen value)
        latents: tuple[int, ...] = (32,),
        network: Layers = Dense(hidden=(200,)),  # noqa: B008
        posterior: Posterior = BottomUp(),  # noqa: B008
        decoder: Model | None = None,
        prior: Model | None = None,
        classes: int | None = None,
        conditioner: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.shape = check_sizes("shape", shape)
        self.conditioner = chosen_conditioner(classes, conditioner)
        chosen = default_decoder(self.shape, likelihood) if decoder is None else decoder
        wanted = check_decoder(chosen, self.shape, likelihood)
        self.decoder, self.likelihood, self.posterior = chosen, chosen.likelihood, posterior
        self.network = network.build(
            self.shape,
            check_sizes("latents", latents),
            posterior,
            features_of(self.conditioner),
            wanted.features if isinstance(wanted, Vector) else wanted.channels,
            whole=isinstance(wanted, Vector),
        )
        self.prior = chosen_prior(prior, self.network, self.conditioner)

    def log_px(self, x: Tensor, state: State, counted: Tensor | None = None) -> Tensor:
        told = self.network.observe(state)
        times = len(told) // max(1, len(x))
        counted = None if counted is None else repeated(counted.expand_as(x), times)
        return self.decoder.log_prob(repeated(x, times), told, counted=counted)

    def observed(self, batch: int, state: State) -> Walk:
        return self.decoder.walk(batch, self.network.observe(state))

    def observed_together(self, x: Tensor, state: State) -> Walk:
        return self.decoder.parallel(x, self.network.observe(state))

    def places(self, shape: tuple[int, ...] | None = None) -> list[tuple[int, ...]]:
        """Return where the factors of x go, in the order of the decoder; see `Model.places`."""
        return self.decoder.places(shape)

    @torch.no_grad()
    def initialize(self, x: Tensor, context: Tensor | None = None) -> None:
        """Tell the layers what x is like, then the decoder, given latents of x; see `Model.initialize`."""
        self.check_shape(tuple(self.check(x).shape[1:]))
        self.network.begin(self.likelihood.scale(x), None)
        self.decoder.initialize(x, self.network.observe(self.inferred(x, context, Infer(x))))

    def receptive_field(self, at: tuple[int, ...]) -> Tensor:
        """Return which values the decoder sees at a place, beside what the latents say."""
        return self.decoder.receptive_field(at)


def default_decoder(shape: tuple[int, ...], likelihood: Likelihood) -> GatedPixelCNN:
    """Return a decoder of images that sees few pixels."""
    return GatedPixelCNN(
        shape=check_image_shape(shape),
        likelihood=likelihood,
        layers=LAYERS,
        kernel_size=KERNEL_SIZE,
        conditioner=Map(channels=MAPS),
    )


def check_decoder(decoder: Model, shape: tuple[int, ...], likelihood: Likelihood) -> Map | Vector:
    """Return the conditioner of a decoder, or raise ValueError where it does not fit the model or is none."""
    if not isinstance(decoder, Model) or not decoder.exact:
        raise ValueError(f"decoder must be an autoregressive model, got {type(decoder).__name__}")
    if tuple(decoder.shape) != shape:
        raise ValueError(f"decoder must have the shape of the model, {shape}, got {tuple(decoder.shape)}")
    if decoder.likelihood not in (likelihood, coupled(likelihood, shape[0])):
        raise ValueError(f"decoder must have the likelihood of the model, {likelihood}, got {decoder.likelihood}")
    told = decoder.conditioner
    if not isinstance(told, Map | Vector) or (isinstance(told, Map) and told.upsample > 1):
        got = "none" if told is None else "Map(upsample=2) or more" if isinstance(told, Map) else type(told).__name__
        raise ValueError(f"decoder must have the conditioner Map(channels=F) or Vector(features=F), got {got}")
    return told
