"""Patches of two photographs of scikit-learn, RGB of 256 levels, which need no download: what this project reports."""

from typing import Any

from ancestral.likelihoods import DiscretizedLogisticMixture
from ancestral.recipes.recipe import OWN, Expected, Recipe, Wanted

PHOTOS = Wanted("photos of scikit-learn", (3, 32, 32), 256, "it comes with the installation", source="photos")


def small(model: str, size: dict[str, Any], steps: int, value: float) -> Recipe:
    """Return a recipe of a small network with ten logistics."""
    return Recipe(
        model=model,
        arguments={"likelihood": DiscretizedLogisticMixture(256, components=10), **size, "classes": None},
        data=PHOTOS,
        training={"steps": steps, "batch_size": 16, "lr": 3e-3},
        expected=Expected(value, "bits/dim", OWN),
        quick=True,
    )


def photos_gated_pixelcnn() -> Recipe:
    """Gated PixelCNN of four layers."""
    return small("gated-pixelcnn", {"channels": 32, "layers": 4, "kernel_size": 3}, 1500, 3.654)


def photos_pixelcnnpp() -> Recipe:
    """PixelCNN++ with one block in each branch."""
    return small("pixelcnn++", {"channels": 24, "layers": 1}, 1500, 3.172)
