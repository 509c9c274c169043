"""Fashion-MNIST, 28x28 grey pictures of 256 levels, in bits/dim."""

from ancestral.likelihoods import DiscretizedLogisticMixture
from ancestral.recipes.recipe import TRAINER, Expected, Recipe, Wanted

FASHION_MNIST = Wanted(
    name="Fashion-MNIST, 20,000 of its training images",
    shape=(1, 28, 28),
    levels=256,
    where="the first 20,000 training images and all 10,000 test images, in their order, as a .npz with the arrays "
    "train and test, uint8 of (N, 1, 28, 28)",
    file="fashion_mnist",
)


def fashion_mnist_pixelcnnpp() -> Recipe:
    """PixelCNN++ of a third of the features of CIFAR-10's."""
    return Recipe(
        model="pixelcnn++",
        arguments={
            "likelihood": DiscretizedLogisticMixture(256, components=10),
            "channels": 64,
            "layers": 5,
            "dropout": 0.5,
            "classes": None,
        },
        data=FASHION_MNIST,
        training={"epochs": 200, "batch_size": 64, "lr": 1e-3},
        expected=Expected(2.958, "bits/dim", "1810.09136, its results on Fashion-MNIST: Glow"),
        differs=f"the figure is that of a Glow trained on all 60,000 images: PixelCNN++ has none; {TRAINER}",
    )
