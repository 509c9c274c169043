"""Recordings of speech at 8 kHz, 256 mu-law codes, in bits/sample: what this project reports itself."""

from ancestral.likelihoods import Categorical
from ancestral.recipes.recipe import OWN, Expected, Recipe, Wanted

SPOKEN_DIGITS = Wanted(
    name="spoken digits (FSDD)",
    shape=(1, 4096),
    levels=256,
    where="the recordings of the Free Spoken Digit Dataset, 5 speakers, 8 kHz, as a folder with the sub-folders train "
    "(takes 5 to 49) and test (takes 0 to 4), in each a folder for each digit, 0 to 9, of WAV files",
    file="fsdd",
    checksum="f42b3a4b30a9f60b",
)


def spoken_digits_wavenet() -> Recipe:
    """WaveNet given the digit, of two cycles of eight dilations: 64 ms of sound."""
    return Recipe(
        model="wavenet",
        arguments={
            "likelihood": Categorical(256),
            "channels": 48,
            "layers": 16,
            "cycle": 8,
            "skip": 64,
            "classes": 10,
        },
        data=SPOKEN_DIGITS,
        training={"steps": 4500, "batch_size": 2, "lr": 3e-3},
        expected=Expected(4.070, "bits/sample", OWN),
        quick=True,
    )
