"""Binarized MNIST, 28x28, in nats: the fixed binarization of Larochelle & Murray 2011, and the one drawn anew."""

from ancestral.likelihoods import Bernoulli
from ancestral.recipes.recipe import Expected, Recipe, Wanted

STATIC = Wanted(
    name="static binarized MNIST",
    shape=(1, 28, 28),
    levels=2,
    where="binarized_mnist_{train,valid,test}.amat of Larochelle & Murray 2011, 50,000 + 10,000 + 10,000 images, as a "
    ".npz with the arrays train, valid and test of zeros and ones, each (N, 28, 28)",
)
DYNAMIC = Wanted(
    name="dynamic binarized MNIST",
    shape=(1, 28, 28),
    levels=2,
    where="MNIST, 60,000 + 10,000 grey images, as a .npz with the arrays train and test of integers up to 255, each "
    "(N, 28, 28); every epoch draws its pixels",
    binarize="dynamic",
)
TRAINER = "AdamW with averaged weights instead of the paper's optimizer"


def mnist_made() -> Recipe:
    """MADE of one hidden layer, 32 masks."""
    return Recipe(
        model="made",
        arguments={
            "likelihood": Bernoulli(),
            "hidden": (8000,),
            "masks": 32,
            "order_agnostic": True,
            "connectivity_agnostic": True,
            "direct": True,
            "classes": None,
        },
        data=STATIC,
        training={"epochs": 300, "batch_size": 100, "lr": 1e-3},
        expected=Expected(88.04, "nats", "1502.03509, its table of MNIST: one layer, 32 masks"),
        differs=f"{TRAINER}, Adagrad; the width is that of the two layers; the figure averages p(x) over the masks",
    )


def mnist_made_deep() -> Recipe:
    """MADE of two hidden layers, 32 masks: the paper's best."""
    return Recipe(
        model="made",
        arguments={
            "likelihood": Bernoulli(),
            "hidden": (8000, 8000),
            "masks": 32,
            "order_agnostic": True,
            "connectivity_agnostic": True,
            "direct": True,
            "classes": None,
        },
        data=STATIC,
        training={"epochs": 300, "batch_size": 100, "lr": 1e-3},
        expected=Expected(86.64, "nats", "1502.03509, its table of MNIST: two layers, 32 masks"),
        differs=f"{TRAINER}, Adagrad; the figure averages p(x) over the masks",
    )


def mnist_pixelcnn() -> Recipe:
    """PixelCNN."""
    return Recipe(
        model="pixelcnn",
        arguments={
            "likelihood": Bernoulli(),
            "channels": 32,
            "layers": 15,
            "final_channels": 32,
            "classes": None,
        },
        data=STATIC,
        training={"epochs": 200, "batch_size": 16, "lr": 1e-3},
        expected=Expected(81.30, "nats", "1601.06759, its results on MNIST"),
        differs=f"{TRAINER}, RMSProp; its size on MNIST is not in the paper: the depth is that on CIFAR-10",
    )


def mnist_diagonal_bilstm() -> Recipe:
    """Diagonal BiLSTM: the best of the PixelRNN paper."""
    return Recipe(
        model="diagonal-bilstm",
        arguments={
            "likelihood": Bernoulli(),
            "channels": 16,
            "layers": 7,
            "final_channels": 32,
            "residual": True,
            "classes": None,
        },
        data=STATIC,
        training={"epochs": 200, "batch_size": 16, "lr": 1e-3},
        expected=Expected(79.20, "nats", "1601.06759, its results on MNIST"),
        differs=f"{TRAINER}, RMSProp",
    )


def mnist_gated_pixelcnn() -> Recipe:
    """Gated PixelCNN, as a baseline of the PixelVAE paper."""
    return Recipe(
        model="gated-pixelcnn",
        arguments={"likelihood": Bernoulli(), "channels": 128, "layers": 10, "kernel_size": 3, "classes": None},
        data=STATIC,
        training={"epochs": 200, "batch_size": 64, "lr": 1e-3},
        expected=Expected(80.10, "nats", "1611.05013, its results on binarized MNIST"),
        differs="size and training are those of the network on dynamic MNIST: the paper gives none",
    )


def dynamic_mnist_gated_pixelcnn() -> Recipe:
    """Gated PixelCNN on images that every epoch draws anew."""
    return Recipe(
        model="gated-pixelcnn",
        arguments={"likelihood": Bernoulli(), "channels": 128, "layers": 10, "kernel_size": 3, "classes": None},
        data=DYNAMIC,
        training={"epochs": 457, "batch_size": 128, "lr": 1e-3},
        expected=Expected(81.50, "nats", "EugenHotaj/pytorch-generative, its README"),
        differs="the test images are drawn too: figures vary with the seed",
    )
