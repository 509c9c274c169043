"""Scanned digits of scikit-learn, which need no download: what this project reports itself."""

from ancestral.likelihoods import Categorical
from ancestral.recipes.recipe import Expected, Recipe, Wanted

DIGITS = Wanted("digits of scikit-learn", (1, 8, 8), 17, "it comes with the installation", source="digits")


def digits_gated_pixelcnn() -> Recipe:
    """Class-conditional Gated PixelCNN of `make demo`, three minutes on two cores."""
    return Recipe(
        model="gated-pixelcnn",
        arguments={"likelihood": Categorical(17), "channels": 48, "layers": 6, "classes": 10},
        data=DIGITS,
        training={"minutes": 3.0, "batch_size": 16},
        expected=Expected(1.618, "bits/dim", "results/digits.json, given the label"),
    )
