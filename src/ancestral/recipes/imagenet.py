"""Down-sampled ImageNet of van den Oord et al. 2016, RGB of 256 levels, in bits/dim of its validation images."""

from ancestral.likelihoods import Categorical
from ancestral.recipes.recipe import Expected, Recipe, Wanted

WHERE = (
    "the images of van den Oord et al. 2016, 1,281,149 + 49,999, as a folder of pictures with the sub-folders train "
    "and test (its validation images); those of Chrabaszcz et al. 2017 are resized otherwise, with other figures"
)
IMAGENET32 = Wanted("ImageNet 32x32", (3, 32, 32), 256, WHERE)
IMAGENET64 = Wanted("ImageNet 64x64", (3, 64, 64), 256, WHERE)
TRAINER = "AdamW with averaged weights, and its schedule"


def gated_pixelcnn(data: Wanted, value: float) -> Recipe:
    """Return the Gated PixelCNN, of the same size for both sizes of image."""
    return Recipe(
        model="gated-pixelcnn",
        arguments={
            "likelihood": Categorical(256),
            "channels": 384,
            "layers": 20,
            "kernel_size": 5,
            "classes": None,
        },
        data=data,
        training={"steps": 200_000, "batch_size": 128, "lr": 1e-3},
        expected=Expected(value, "bits/dim", "1606.05328, its results on ImageNet"),
        differs=TRAINER,
    )


def imagenet32_gated_pixelcnn() -> Recipe:
    """Gated PixelCNN on 32x32."""
    return gated_pixelcnn(IMAGENET32, 3.83)


def imagenet64_gated_pixelcnn() -> Recipe:
    """Gated PixelCNN on 64x64."""
    return gated_pixelcnn(IMAGENET64, 3.57)
