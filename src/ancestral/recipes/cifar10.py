"""CIFAR-10, 32x32 RGB of 256 levels, in bits/dim; no augmentation, unconditional."""

from ancestral.likelihoods import Categorical
from ancestral.recipes.recipe import Expected, Recipe, Wanted

CIFAR10 = Wanted(
    name="CIFAR-10",
    shape=(3, 32, 32),
    levels=256,
    where="50,000 + 10,000 images as a .npz with the arrays train and test, uint8 of (N, 3, 32, 32), or as a folder of "
    "pictures with the sub-folders train and test",
)
THIRDS = "channel groups of R, G and B take features in threes: 129 for 128, 1023 for 1024"
TRAINER = "AdamW with averaged weights instead of RMSProp"


def cifar10_pixelcnn() -> Recipe:
    """PixelCNN."""
    return Recipe(
        model="pixelcnn",
        arguments={
            "likelihood": Categorical(256),
            "channels": 129,
            "layers": 15,
            "final_channels": 1023,
            "classes": None,
        },
        data=CIFAR10,
        training={"epochs": 100, "batch_size": 16, "lr": 1e-3},
        expected=Expected(3.14, "bits/dim", "1601.06759, its results on CIFAR-10; table 1 of 1701.05517"),
        differs=f"{THIRDS}; {TRAINER}",
    )
