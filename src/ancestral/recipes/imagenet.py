"""Down-sampled ImageNet of van den Oord et al. 2016, RGB of 256 levels, in bits/dim of its validation images."""

from typing import Any

from ancestral.likelihoods import Categorical, DiscretizedLogisticMixture
from ancestral.recipes.recipe import TRAINER, Expected, Recipe, Wanted, threes

WHERE = (
    "the images of van den Oord et al. 2016, 1,281,149 + 49,999, as a folder of pictures with the sub-folders train "
    "and test (its validation images); those of Chrabaszcz et al. 2017 are resized otherwise, with other figures"
)
IMAGENET32 = Wanted("ImageNet 32x32", (3, 32, 32), 256, WHERE)
IMAGENET64 = Wanted("ImageNet 64x64", (3, 64, 64), 256, WHERE)
SCHEDULE = f"{TRAINER}, and its schedule"


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
        differs=SCHEDULE,
    )


def imagenet32_gated_pixelcnn() -> Recipe:
    """Gated PixelCNN on 32x32."""
    return gated_pixelcnn(IMAGENET32, 3.83)


def imagenet64_gated_pixelcnn() -> Recipe:
    """Gated PixelCNN on 64x64."""
    return gated_pixelcnn(IMAGENET64, 3.57)


def row_lstm(data: Wanted, value: float, size: dict[str, Any], batch_size: int, features: str) -> Recipe:
    """Return the Row LSTM of a size, which has other numbers of features than reported."""
    return Recipe(
        model="row-lstm",
        arguments={"likelihood": Categorical(256), **size, "final_channels": 1023, "classes": None},
        data=data,
        training={"epochs": 20, "batch_size": batch_size, "lr": 1e-3},
        expected=Expected(value, "bits/dim", "1601.06759, its results on ImageNet"),
        differs=f"{features}; {SCHEDULE}",
    )


def imagenet32_row_lstm() -> Recipe:
    """Row LSTM on 32x32."""
    return row_lstm(IMAGENET32, 3.86, {"channels": 384, "layers": 12, "residual": True}, 64, threes(1023, 1024))


def imagenet64_row_lstm() -> Recipe:
    """Row LSTM on 64x64, without residual connections."""
    size = {"channels": 513, "layers": 4, "residual": False}
    return row_lstm(IMAGENET64, 3.63, size, 32, threes(513, 512, 1023, 1024))


def imagenet32_pixelsnail() -> Recipe:
    """PixelSNAIL on 32x32."""
    return Recipe(
        model="pixelsnail",
        arguments={
            "likelihood": DiscretizedLogisticMixture(256, components=32),
            "channels": 256,
            "layers": 12,
            "residual_blocks": 4,
            "keys": 16,
            "dropout": 0.0,
            "classes": None,
        },
        data=IMAGENET32,
        training={"epochs": 20, "batch_size": 64, "lr": 1e-3},
        expected=Expected(3.80, "bits/dim", "1712.09763, its results on ImageNet"),
        differs="AdamW and its schedule; 8 images a GPU there, the number of GPUs is not said",
    )
