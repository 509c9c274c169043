"""Likelihood models that are directed products: autoregressive networks and hierarchical latent-variable models.

The public names are resolved when they are first used (PEP 562), so that importing this package imports neither
torch nor a plotting library:

>>> import ancestral
>>> model = ancestral.GatedPixelCNN(shape=(1, 8, 8), likelihood=ancestral.Categorical(17), layers=2)
>>> model.sample(2).shape
torch.Size([2, 1, 8, 8])
"""

import importlib
from typing import Any

__version__ = "0.1.0"

_HOME = {
    "Bernoulli": "likelihoods",
    "Categorical": "likelihoods",
    "DiscretizedLogisticMixture": "likelihoods",
    "LogisticMixture": "likelihoods",
    "GaussianMixture": "likelihoods",
    "OneHot": "conditioning",
    "Vector": "conditioning",
    "Map": "conditioning",
    "Frames": "conditioning",
    "Model": "model",
    "Factor": "model",
    "drive": "walk",
    "MADE": "models",
    "PixelCNN": "models",
    "RowLSTM": "models",
    "DiagonalBiLSTM": "models",
    "MultiScalePixelRNN": "models",
    "GatedPixelCNN": "models",
    "PixelCNNpp": "models",
    "PixelSNAIL": "models",
    "WaveNet": "models",
    "HierarchicalVAE": "models",
    "PixelVAE": "models",
    "Dense": "latents",
    "Convolutional": "latents",
    "Residual": "latents",
    "MeanField": "latents",
    "BottomUp": "latents",
    "Ladder": "latents",
    "TopDown": "latents",
    "load": "checkpoint",
    "save": "checkpoint",
    "evaluate": "evaluation",
    "train": "training",
    "elbo": "objectives",
    "iwae": "objectives",
    "check_model": "testing",
    "compress": "codec",
    "decompress": "codec",
}
_MODULES = {
    "anomaly",
    "causal",
    "checkpoint",
    "codec",
    "conditioning",
    "data",
    "evaluation",
    "latents",
    "likelihoods",
    "model",
    "models",
    "objectives",
    "pretrained",
    "recipes",
    "report",
    "testing",
    "training",
    "walk",
}

__all__ = [*sorted(_HOME), *sorted(_MODULES)]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"ancestral.{name}")
    if name in _HOME:
        return getattr(importlib.import_module(f"ancestral.{_HOME[name]}"), name)
    raise AttributeError(f"module 'ancestral' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *__all__]
