"""Binarized MNIST, 28x28, in nats: the fixed binarization of Larochelle & Murray 2011, and the one drawn anew."""

from typing import Any

from ancestral.latents import BottomUp, Dense, Residual, TopDown
from ancestral.likelihoods import Bernoulli
from ancestral.recipes.recipe import TRAINER, Expected, Recipe, Wanted

STATIC = Wanted(
    name="static binarized MNIST",
    shape=(1, 28, 28),
    levels=2,
    where="binarized_mnist_{train,valid,test}.amat of Larochelle & Murray 2011, 50,000 + 10,000 + 10,000 images, as a "
    ".npz with the arrays train, valid and test of zeros and ones, each (N, 28, 28)",
    file="mnist_static_binarized",
    checksum="39f1a0b608f65a50",
)
DYNAMIC = Wanted(
    name="dynamic binarized MNIST",
    shape=(1, 28, 28),
    levels=2,
    where="MNIST, 60,000 + 10,000 grey images, as a .npz with the arrays train and test of integers up to 255, each "
    "(N, 28, 28); every epoch draws its pixels",
    binarize="dynamic",
)


def made(layers: int, value: float, place: str, differs: str) -> Recipe:
    """Return the MADE of layers of 8000 units, 32 masks."""
    return Recipe(
        model="made",
        arguments={
            "likelihood": Bernoulli(),
            "hidden": (8000,) * layers,
            "masks": 32,
            "order_agnostic": True,
            "connectivity_agnostic": True,
            "direct": True,
            "classes": None,
        },
        data=STATIC,
        training={"epochs": 300, "batch_size": 100, "lr": 1e-3},
        expected=Expected(value, "nats", f"1502.03509, its table of MNIST: {place}, 32 masks"),
        differs=f"{TRAINER} instead of Adagrad; {differs}",
    )


def mnist_made() -> Recipe:
    """MADE of one hidden layer, 32 masks."""
    differs = "the width is that of the two layers; the figure averages p(x) over the masks"
    return made(1, 88.04, "one layer", differs)


def mnist_made_one_mask() -> Recipe:
    """MADE of one hidden layer and one mask, which a CPU trains in half an hour."""
    return Recipe(
        model="made",
        arguments={"likelihood": Bernoulli(), "hidden": (8000,), "direct": True, "classes": None},
        data=STATIC,
        training={"epochs": 30, "batch_size": 200, "lr": 1e-3, "weight_decay": 0.3},
        expected=Expected(88.40, "nats", "1502.03509, its table of MNIST: one layer, one mask"),
        differs=f"{TRAINER} and weight decay instead of Adagrad; 200 images a batch for 100",
        quick=True,
    )


def mnist_made_deep() -> Recipe:
    """MADE of two hidden layers, 32 masks: the paper's best."""
    return made(2, 86.64, "two layers", "the figure averages p(x) over the masks")


def pixelrnn(model: str, size: dict[str, Any], value: float, differs: str = "") -> Recipe:
    """Return a network of the PixelRNN paper."""
    return Recipe(
        model=model,
        arguments={"likelihood": Bernoulli(), **size, "final_channels": 32, "classes": None},
        data=STATIC,
        training={"epochs": 200, "batch_size": 16, "lr": 1e-3},
        expected=Expected(value, "nats", "1601.06759, its results on MNIST"),
        differs=f"{TRAINER} instead of RMSProp{differs}",
    )


def mnist_pixelcnn() -> Recipe:
    """PixelCNN."""
    differs = "; its size on MNIST is not in the paper: the depth is that on CIFAR-10"
    return pixelrnn("pixelcnn", {"channels": 32, "layers": 15}, 81.30, differs)


def mnist_row_lstm() -> Recipe:
    """Row LSTM."""
    differs = "; its size on MNIST is not in the paper: it is that of the Diagonal BiLSTM"
    return pixelrnn("row-lstm", {"channels": 16, "layers": 7, "residual": True}, 80.54, differs)


def mnist_diagonal_bilstm() -> Recipe:
    """Diagonal BiLSTM: the best of the PixelRNN paper."""
    return pixelrnn("diagonal-bilstm", {"channels": 16, "layers": 7, "residual": True}, 79.20)


def gated_pixelcnn(data: Wanted, training: dict[str, Any], expected: Expected, differs: str) -> Recipe:
    """Return the Gated PixelCNN, of the same size for both binarizations."""
    return Recipe(
        model="gated-pixelcnn",
        arguments={"likelihood": Bernoulli(), "channels": 128, "layers": 10, "kernel_size": 3, "classes": None},
        data=data,
        training={**training, "lr": 1e-3},
        expected=expected,
        differs=differs,
    )


def mnist_gated_pixelcnn() -> Recipe:
    """Gated PixelCNN, as a baseline of the PixelVAE paper."""
    expected = Expected(80.10, "nats", "1611.05013, its results on binarized MNIST")
    differs = "size and training are those of the network on dynamic MNIST: the paper gives none"
    return gated_pixelcnn(STATIC, {"epochs": 200, "batch_size": 64}, expected, differs)


def dynamic_mnist_gated_pixelcnn() -> Recipe:
    """Gated PixelCNN on images that every epoch draws anew."""
    expected = Expected(81.50, "nats", "EugenHotaj/pytorch-generative, its README")
    differs = "the test images are drawn too: figures vary with the seed"
    return gated_pixelcnn(DYNAMIC, {"epochs": 457, "batch_size": 128}, expected, differs)


def dynamic_mnist_hierarchical_vae() -> Recipe:
    """Two levels of latents with a bottom-up posterior: the VAE of the IWAE paper."""
    return Recipe(
        model="hierarchical-vae",
        arguments={
            "likelihood": Bernoulli(),
            "latents": (100, 50),
            "network": Dense(hidden=(200, 100), layers=2),
            "posterior": BottomUp(),
            "classes": None,
        },
        data=DYNAMIC,
        training={"epochs": 3280, "batch_size": 20, "lr": 1e-3},
        expected=Expected(85.33, "nats", "1509.00519, table 1: two stochastic layers, k = 1, by 5000 draws"),
        differs=f"{TRAINER} instead of steps of the rate; `evaluate --samples 5000` is the figure; --loss 'iwae(k=50)' "
        "would be the paper's best, 82.90; the test images are drawn too",
    )


def mnist_hierarchical_vae() -> Recipe:
    """Two levels of latents with a bottom-up posterior, as docs/latents.md has it: 44 minutes of one thread."""
    return Recipe(
        model="hierarchical-vae",
        arguments={
            "likelihood": Bernoulli(),
            "latents": (100, 50),
            "network": Dense(hidden=(200, 100), layers=2, rectified=True, batch_norm=True),
            "posterior": BottomUp(),
            "classes": None,
        },
        data=STATIC,
        training={
            "steps": 125_000,
            "batch_size": 200,
            "lr": 5e-3,
            "weight_decay": 0.08,
            "loss": "elbo(warm_up=10000)",
        },
        expected=Expected(89.55, "nats", "results/latents.json: the ELBO"),
        differs="that run gave each option; `evaluate --samples 500` says 85.68",
    )


def mnist_top_down_vae() -> Recipe:
    """Fifteen levels of latents in residual blocks with a top-down posterior."""
    strides = (*(1,) * 4, 2, *(1,) * 4, 2, *(1,) * 4, 7)  # levels of 28x28, of 14x14, of 7x7, and one of 1x1
    return Recipe(
        model="hierarchical-vae",
        arguments={
            "likelihood": Bernoulli(),
            "latents": (16,) * len(strides),
            "network": Residual(channels=128, strides=strides),
            "posterior": TopDown(),
            "classes": None,
        },
        data=STATIC,
        training={"epochs": 200, "batch_size": 100, "lr": 1e-3},
        expected=Expected(80.47, "nats", "1902.02102: BIVA, one draw, fine-tuned"),
        differs="other blocks (those of 2011.10650), no bottom-up latents; no fine-tuning on train and valid part",
    )
