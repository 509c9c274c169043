"""Latents: the layers of a hierarchy and its posteriors. The models are in `models`."""

from ancestral.latents.convolutional import Convolutional
from ancestral.latents.dense import Dense
from ancestral.latents.posteriors import BottomUp, Ladder, Layers, MeanField, Network, Posterior, TopDown
from ancestral.latents.residual import Residual

__all__ = [
    "BottomUp",
    "Convolutional",
    "Dense",
    "Ladder",
    "Layers",
    "MeanField",
    "Network",
    "Posterior",
    "Residual",
    "TopDown",
]
