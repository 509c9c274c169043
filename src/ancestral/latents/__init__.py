"""Latents: the layers of a hierarchy and its posteriors. The models are in `models`."""

from ancestral.latents.dense import Dense
from ancestral.latents.posteriors import BottomUp, Ladder, Layers, MeanField, Network, Posterior, TopDown

__all__ = ["BottomUp", "Dense", "Ladder", "Layers", "MeanField", "Network", "Posterior", "TopDown"]
