"""Scanned digits of scikit-learn, which need no download: what this project reports itself."""

from ancestral.likelihoods import Categorical, DiscretizedLogisticMixture
from ancestral.recipes.recipe import OWN, Expected, Recipe, Wanted

DIGITS = Wanted("digits of scikit-learn", (1, 8, 8), 17, "it comes with the installation", source="digits")


def digits_gated_pixelcnn() -> Recipe:
    """Class-conditional Gated PixelCNN, the network of `make demo`."""
    return Recipe(
        model="gated-pixelcnn",
        arguments={"likelihood": Categorical(17), "channels": 48, "layers": 6, "classes": 10},
        data=DIGITS,
        training={"steps": 2000, "batch_size": 16, "lr": 3e-3},
        expected=Expected(1.618, "bits/dim", OWN),
        quick=True,
    )


def digits_pixelcnnpp() -> Recipe:
    """Class-conditional PixelCNN++ with one block in each branch."""
    return Recipe(
        model="pixelcnn++",
        arguments={
            "likelihood": DiscretizedLogisticMixture(17, components=5),
            "channels": 16,
            "layers": 1,
            "classes": 10,
        },
        data=DIGITS,
        training={"steps": 2000, "batch_size": 16, "lr": 3e-3},
        expected=Expected(1.645, "bits/dim", OWN),
        quick=True,
    )
