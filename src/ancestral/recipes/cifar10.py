"""CIFAR-10, 32x32 RGB of 256 levels, in bits/dim; no augmentation, unconditional."""

from ancestral.latents import Residual, TopDown
from ancestral.likelihoods import Categorical, DiscretizedLogisticMixture
from ancestral.recipes.recipe import TRAINER, Expected, Recipe, Wanted, threes

CIFAR10 = Wanted(
    name="CIFAR-10",
    shape=(3, 32, 32),
    levels=256,
    where="50,000 + 10,000 images as a .npz with the arrays train and test, uint8 of (N, 3, 32, 32), or as a folder of "
    "pictures with the sub-folders train and test",
)
VDVAE_STRIDES = (*(1,) * 22, 2, *(1,) * 10, 2, *(1,) * 5, 2, 1, 1, 4)  # 22 levels at 32x32, 11 at 16x16, ... 1 at 1x1
DIFFERS = f"{threes(129, 128, 1023, 1024)}; {TRAINER} instead of RMSProp"  # from the PixelRNN paper


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
        differs=DIFFERS,
    )


def pixelrnn(model: str, value: float) -> Recipe:
    """Return a PixelRNN: both have the same size."""
    return Recipe(
        model=model,
        arguments={
            "likelihood": Categorical(256),
            "channels": 129,
            "layers": 12,
            "final_channels": 1023,
            "residual": True,
            "classes": None,
        },
        data=CIFAR10,
        training={"epochs": 100, "batch_size": 16, "lr": 1e-3},
        expected=Expected(value, "bits/dim", "1601.06759, its results on CIFAR-10"),
        differs=DIFFERS,
    )


def cifar10_row_lstm() -> Recipe:
    """Row LSTM."""
    return pixelrnn("row-lstm", 3.07)


def cifar10_diagonal_bilstm() -> Recipe:
    """Diagonal BiLSTM."""
    return pixelrnn("diagonal-bilstm", 3.00)


def cifar10_pixelcnnpp() -> Recipe:
    """PixelCNN++."""
    return Recipe(
        model="pixelcnn++",
        arguments={
            "likelihood": DiscretizedLogisticMixture(256, components=10),
            "channels": 160,
            "layers": 5,
            "dropout": 0.5,
            "classes": None,
        },
        data=CIFAR10,
        training={"epochs": 500, "batch_size": 128, "lr": 1e-3},
        expected=Expected(2.92, "bits/dim", "1701.05517, table 1"),
        differs="160 features as in the authors' code, 192 in the text; AdamW and its schedule; 5000 epochs there",
    )


def cifar10_pixelsnail() -> Recipe:
    """PixelSNAIL."""
    return Recipe(
        model="pixelsnail",
        arguments={
            "likelihood": DiscretizedLogisticMixture(256, components=10),
            "channels": 256,
            "layers": 12,
            "residual_blocks": 4,
            "keys": 16,
            "dropout": 0.5,
            "classes": None,
        },
        data=CIFAR10,
        training={"epochs": 500, "batch_size": 64, "lr": 1e-3},
        expected=Expected(2.85, "bits/dim", "1712.09763, its results on CIFAR-10"),
        differs="AdamW and its schedule; 8 images a GPU there, the number of GPUs is not said",
    )


def cifar10_vdvae() -> Recipe:
    """Very deep VAE: 43 levels of latents, from 1x1 up to 32x32."""
    return Recipe(
        model="hierarchical-vae",
        arguments={
            "likelihood": DiscretizedLogisticMixture(256, components=10),
            "latents": (16,) * len(VDVAE_STRIDES),
            "network": Residual(channels=384, strides=VDVAE_STRIDES, blocks=(11, 6, 6, 3, 3)),
            "posterior": TopDown(),
            "classes": None,
        },
        data=CIFAR10,
        training={"epochs": 650, "batch_size": 32, "lr": 2e-4},
        expected=Expected(2.87, "bits/dim", "2011.10650, the authors' README: one draw"),
        differs="AdamW of the trainer and its schedule; updates with large gradients are clipped, not skipped",
    )
