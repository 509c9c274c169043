"""Tables: the binary ones on which NADE and MADE were measured, and continuous ones of the UCI repository, in nats."""

from typing import Any

from ancestral.likelihoods import Bernoulli, GaussianMixture
from ancestral.recipes.recipe import OWN, TRAINER, Expected, Recipe, Wanted

THEIRS = ", instead of Adadelta or SGD"
SHUFFLED = f"{THEIRS}; the order of the test rows is not theirs"
SAMPLED = {"order_agnostic": True, "connectivity_agnostic": True}  # of each mask its own


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


def made(data: Wanted, expected: Expected, training: dict[str, Any], size: dict[str, Any], differs: str = "") -> Recipe:
    """Return a MADE with 500 units, and one fixed mask if nothing else is said."""
    return Recipe(
        model="made",
        arguments={"likelihood": Bernoulli(), "hidden": (500,), "direct": True, **size, "classes": None},
        data=data,
        training={"batch_size": 100, "lr": 3e-3, **training},
        expected=expected,
        differs=f"{TRAINER} and weight decay, chosen by the valid part{differs}",
        quick=True,
    )


def fixed(value: float) -> Expected:
    """Return what was reported with one fixed mask."""
    return Expected(value, "nats", "1502.03509, its table of UCI data: fixed mask")


def sampled(value: float) -> Expected:
    """Return what was reported with several masks."""
    return Expected(value, "nats", "1502.03509, its table of UCI data: mask sampling")


NIPS = binary("nips", 500, (400, 100, 1240), "2578495dd17ebfd1")


def adult_made() -> Recipe:
    """MADE on adult."""
    data = binary("adult", 123, (5000, 1414, 26147), "ccdf601017aca9f4")
    return made(
        data,
        fixed(13.12),
        {"steps": 4000, "weight_decay": 0.1},
        {},
        SHUFFLED,
    )


def connect4_made() -> Recipe:
    """MADE on connect4."""
    data = binary("connect4", 126, (16000, 4000, 47557), "dfab67796f11b6fd")
    return made(
        data,
        fixed(11.90),
        {"steps": 12000, "weight_decay": 0.07},
        {},
        SHUFFLED,
    )


def dna_made() -> Recipe:
    """MADE on dna."""
    data = binary("dna", 180, (1400, 600, 1186), "291722b60924f031")
    return made(data, fixed(83.63), {"steps": 4000, "batch_size": 50, "weight_decay": 0.8}, {}, THEIRS)


def mushrooms_made() -> Recipe:
    """MADE on mushrooms."""
    data = binary("mushrooms", 112, (2000, 500, 5624), "d34fad5b9c2aa044")
    return made(data, fixed(9.68), {"steps": 6000, "batch_size": 20, "weight_decay": 0.1}, {}, THEIRS)


def nltcs_made() -> Recipe:
    """MADE on nltcs."""
    data = binary("nltcs", 16, (16181, 2157, 3236), "8fcb544439be1bf2", "Lowd & Davis")
    return made(data, Expected(5.99, "nats", OWN), {"steps": 4000, "weight_decay": 0.1}, {})


def baudio_made() -> Recipe:
    """MADE on baudio."""
    data = binary("baudio", 100, (15000, 2000, 3000), "f96decd925b71229", "Lowd & Davis")
    return made(data, Expected(38.69, "nats", OWN), {"steps": 4000, "weight_decay": 0.3}, {})


def nips_made() -> Recipe:
    """MADE on nips-0-12."""
    return made(NIPS, fixed(280.25), {"steps": 1200, "batch_size": 20, "weight_decay": 4.5}, {"direct": False}, THEIRS)


def nips_made_masks() -> Recipe:
    """MADE on nips-0-12, 32 masks."""
    size = {"direct": False, "masks": 32, **SAMPLED}
    return made(NIPS, sampled(277.28), {"steps": 2000, "batch_size": 50, "weight_decay": 3.0}, size, THEIRS)


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
