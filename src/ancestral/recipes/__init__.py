"""Recipes: one function for each reported result, with the sizes of the papers.

A recipe says which model, with which arguments, on which data, trained how, should come to which number. `ancestral
recipes` lists them, `ancestral train --recipe NAME --data FILE --out RUN` follows one.

>>> RECIPES["mnist-made-deep"]().expected.value
86.64
"""

from collections.abc import Callable

from ancestral.recipes.cifar10 import cifar10_pixelcnn
from ancestral.recipes.digits import digits_gated_pixelcnn
from ancestral.recipes.imagenet import imagenet32_gated_pixelcnn, imagenet64_gated_pixelcnn
from ancestral.recipes.mnist import (
    dynamic_mnist_gated_pixelcnn,
    mnist_gated_pixelcnn,
    mnist_made,
    mnist_made_deep,
    mnist_pixelcnn,
)
from ancestral.recipes.recipe import Expected, Recipe, Wanted

__all__ = ["RECIPES", "Expected", "Recipe", "Wanted"]

RECIPES: dict[str, Callable[[], Recipe]] = {
    "digits-gated-pixelcnn": digits_gated_pixelcnn,
    "mnist-made": mnist_made,
    "mnist-made-deep": mnist_made_deep,
    "mnist-pixelcnn": mnist_pixelcnn,
    "mnist-gated-pixelcnn": mnist_gated_pixelcnn,
    "dynamic-mnist-gated-pixelcnn": dynamic_mnist_gated_pixelcnn,
    "cifar10-pixelcnn": cifar10_pixelcnn,
    "imagenet32-gated-pixelcnn": imagenet32_gated_pixelcnn,
    "imagenet64-gated-pixelcnn": imagenet64_gated_pixelcnn,
}
