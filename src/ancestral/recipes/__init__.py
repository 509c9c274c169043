"""Recipes: one function for each reported result, with the sizes of the papers.

A recipe says which model, with which arguments, on which data, trained how, should come to which number. `ancestral
recipes` lists them, `ancestral train --recipe NAME --data FILE --out RUN` follows one.

>>> RECIPES["mnist-made-deep"]().expected.value
86.64

`GPU` names those of whose length a GPU is meant, in the order in which to follow them: what is compared most, first.
"""

from collections.abc import Callable

from ancestral.recipes.cifar10 import (
    cifar10_diagonal_bilstm,
    cifar10_pixelcnn,
    cifar10_pixelcnnpp,
    cifar10_pixelsnail,
    cifar10_row_lstm,
    cifar10_vdvae,
)
from ancestral.recipes.digits import digits_gated_pixelcnn, digits_pixelcnnpp
from ancestral.recipes.fashion_mnist import fashion_mnist_pixelcnnpp
from ancestral.recipes.imagenet import (
    imagenet32_gated_pixelcnn,
    imagenet32_pixelsnail,
    imagenet32_row_lstm,
    imagenet64_gated_pixelcnn,
    imagenet64_row_lstm,
)
from ancestral.recipes.mnist import (
    dynamic_mnist_gated_pixelcnn,
    dynamic_mnist_hierarchical_vae,
    mnist_diagonal_bilstm,
    mnist_gated_pixelcnn,
    mnist_hierarchical_vae,
    mnist_made,
    mnist_made_deep,
    mnist_made_one_mask,
    mnist_pixelcnn,
    mnist_row_lstm,
    mnist_top_down_vae,
)
from ancestral.recipes.photos import photos_gated_pixelcnn, photos_pixelcnnpp
from ancestral.recipes.recipe import Expected, Recipe, Wanted
from ancestral.recipes.sound import spoken_digits_wavenet
from ancestral.recipes.tables import (
    adult_made,
    baudio_made,
    connect4_made,
    dna_made,
    kin8nm_made,
    mushrooms_made,
    nips_made,
    nips_made_masks,
    nltcs_made,
    power_plant_made,
    wine_quality_red_made,
)

__all__ = ["GPU", "RECIPES", "Expected", "Recipe", "Wanted"]

RECIPES: dict[str, Callable[[], Recipe]] = {
    "digits-gated-pixelcnn": digits_gated_pixelcnn,
    "digits-pixelcnn++": digits_pixelcnnpp,
    "photos-gated-pixelcnn": photos_gated_pixelcnn,
    "photos-pixelcnn++": photos_pixelcnnpp,
    "spoken-digits-wavenet": spoken_digits_wavenet,
    "adult-made": adult_made,
    "connect4-made": connect4_made,
    "dna-made": dna_made,
    "mushrooms-made": mushrooms_made,
    "nips-made": nips_made,
    "nips-made-masks": nips_made_masks,
    "nltcs-made": nltcs_made,
    "baudio-made": baudio_made,
    "power-plant-made": power_plant_made,
    "kin8nm-made": kin8nm_made,
    "wine-quality-red-made": wine_quality_red_made,
    "mnist-made-one-mask": mnist_made_one_mask,
    "mnist-hierarchical-vae": mnist_hierarchical_vae,
    "mnist-made": mnist_made,
    "mnist-made-deep": mnist_made_deep,
    "mnist-pixelcnn": mnist_pixelcnn,
    "mnist-row-lstm": mnist_row_lstm,
    "mnist-diagonal-bilstm": mnist_diagonal_bilstm,
    "mnist-gated-pixelcnn": mnist_gated_pixelcnn,
    "mnist-top-down-vae": mnist_top_down_vae,
    "dynamic-mnist-gated-pixelcnn": dynamic_mnist_gated_pixelcnn,
    "dynamic-mnist-hierarchical-vae": dynamic_mnist_hierarchical_vae,
    "fashion-mnist-pixelcnn++": fashion_mnist_pixelcnnpp,
    "cifar10-pixelcnn": cifar10_pixelcnn,
    "cifar10-row-lstm": cifar10_row_lstm,
    "cifar10-diagonal-bilstm": cifar10_diagonal_bilstm,
    "cifar10-pixelcnn++": cifar10_pixelcnnpp,
    "cifar10-pixelsnail": cifar10_pixelsnail,
    "cifar10-vdvae": cifar10_vdvae,
    "imagenet32-row-lstm": imagenet32_row_lstm,
    "imagenet32-gated-pixelcnn": imagenet32_gated_pixelcnn,
    "imagenet32-pixelsnail": imagenet32_pixelsnail,
    "imagenet64-row-lstm": imagenet64_row_lstm,
    "imagenet64-gated-pixelcnn": imagenet64_gated_pixelcnn,
}

GPU = (
    "mnist-gated-pixelcnn",
    "mnist-diagonal-bilstm",
    "mnist-made-deep",
    "mnist-pixelcnn",
    "mnist-row-lstm",
    "mnist-top-down-vae",
    "fashion-mnist-pixelcnn++",
)
