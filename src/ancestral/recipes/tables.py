"""Tables: the binary ones on which NADE and MADE were measured, and continuous ones of the UCI repository, in nats."""

from typing import Any

from ancestral.likelihoods import Bernoulli, GaussianMixture
from ancestral.recipes.recipe import OWN, TRAINER, Expected, Recipe, Wanted


def binary(
    name: str, columns: int, rows: tuple[int, int, int], checksum: str, by: str = "Larochelle & Murray 2011"
) -> Wanted:
    """Return a binary table: its columns, the rows of its three parts, and who made these."""
    train, valid, test = (f"{count:,}" for count in rows)
    return Wanted(
        name=f"UCI {name}, binary" if by.startswith("Larochelle") else f"{name}, binary",
        shape=(columns,),
        levels=2,
        where=f"the parts of {by}, {train} + {valid} + {test} rows, as a .npz with the arrays "
        f"train, valid and test of zeros and ones, each (N, {columns})",
        file=name,
        checksum=checksum,
    )


def continuous(name: str, columns: int, count: int, checksum: str) -> Wanted:
    """Return a continuous table: its columns, and the rows of all parts."""
    return Wanted(
        name=f"UCI {name}",
        shape=(columns,),
        levels=None,
        where=f"{count:,} rows in the order of numpy.random.default_rng(0).permutation, the first 80 % train, the next "
        f"10 % valid, the last test, standardised by train: a .npz with these arrays, float32, each (N, {columns})",
        file=name,
        checksum=checksum,
    )


def made(data: Wanted, value: float, training: dict[str, Any], size: dict[str, Any], differs: str = "") -> Recipe:
    """Return a MADE with one fixed mask."""
    return Recipe(
        model="made",
        arguments={"likelihood": Bernoulli(), "hidden": (500,), "direct": True, **size, "classes": None},
        data=data,
        training={"batch_size": 100, "lr": 3e-3, **training},
        expected=Expected(value, "nats", "1502.03509, its table of UCI data: fixed mask"),
        differs=f"{TRAINER} and weight decay, chosen by the valid part, instead of Adadelta or SGD{differs}",
        quick=True,
    )


def adult_made() -> Recipe:
    """MADE on adult."""
    data = binary("adult", 123, (5000, 1414, 26147), "ccdf601017aca9f4")
    return made(data, 13.12, {"steps": 4000, "weight_decay": 0.1}, {}, "; the order of the test rows is not theirs")


def connect4_made() -> Recipe:
    """MADE on connect4."""
    data = binary("connect4", 126, (16000, 4000, 47557), "dfab67796f11b6fd")
    return made(data, 11.90, {"steps": 12000, "weight_decay": 0.07}, {}, "; the order of the test rows is not theirs")


def dna_made() -> Recipe:
    """MADE on dna."""
    data = binary("dna", 180, (1400, 600, 1186), "291722b60924f031")
    return made(data, 83.63, {"steps": 4000, "batch_size": 50, "weight_decay": 0.8}, {})


def mushrooms_made() -> Recipe:
    """MADE on mushrooms."""
    data = binary("mushrooms", 112, (2000, 500, 5624), "d34fad5b9c2aa044")
    return made(data, 9.68, {"steps": 6000, "batch_size": 20, "weight_decay": 0.1}, {})


def nips_made() -> Recipe:
    """MADE on nips-0-12."""
    data = binary("nips", 500, (400, 100, 1240), "2578495dd17ebfd1")
    return made(data, 280.25, {"steps": 1200, "batch_size": 20, "weight_decay": 4.5}, {"direct": False})


def gaussian_made(
    data: Wanted, value: float, training: dict[str, Any], hidden: tuple[int, ...] = (200, 200), differs: str = ""
) -> Recipe:
    """Return a MADE with mixtures of Gaussians."""
    return Recipe(
        model="made",
        arguments={"likelihood": GaussianMixture(components=10), "hidden": hidden, "classes": None},
        data=data,
        training={"batch_size": 100, "lr": 3e-3, **training},
        expected=Expected(value, "nats", OWN),
        differs=differs,
        quick=True,
    )


def power_plant_made() -> Recipe:
    """MADE with Gaussian mixtures on power_plant."""
    return gaussian_made(
        continuous("power_plant", 5, 9568, "5198a4e0b974df9f"), 3.65, {"steps": 6000, "weight_decay": 0.03}
    )


def kin8nm_made() -> Recipe:
    """MADE with Gaussian mixtures on kin8nm."""
    return gaussian_made(continuous("kin8nm", 9, 8192, "8ea3bc1a1a988390"), 11.0, {"steps": 6000, "weight_decay": 0.5})


def wine_quality_red_made() -> Recipe:
    """MADE with Gaussian mixtures on wine_quality_red."""
    data = continuous("wine_quality_red", 12, 1599, "da3f271828381881")
    differs = "its last column has six values: their density is limited by the smallest scale of a component alone"
    return gaussian_made(data, 6.45, {"steps": 2000, "batch_size": 50, "weight_decay": 0.67}, (100,), differs)
