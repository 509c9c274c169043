"""Data: from what a user has (a folder, arrays, a table, a name) to integer tensors, and back again.

A source gives levels in [0, K) of a small integer dtype, or float32 for continuous data; it knows nothing of how a
model scales them. `load` reads one, `Data` is what comes out, and `Data.restore` turns levels into what a user opens.
"""

from .audio import Recording, read_recording
from .binarize import BINARIZE, Binarize
from .dataset import Data, Split
from .given import GIVEN, Given, as_context
from .growing import AudioWriter
from .mel import Mel, log_mel
from .recordings import Recordings
from .restore import Audio, Restore, grid, rebuild, record
from .sources import BUILT_IN, SOURCES, load

__all__ = [
    "BINARIZE",
    "BUILT_IN",
    "GIVEN",
    "SOURCES",
    "Audio",
    "AudioWriter",
    "Binarize",
    "Data",
    "Given",
    "Mel",
    "Recording",
    "Recordings",
    "Restore",
    "Split",
    "as_context",
    "grid",
    "load",
    "log_mel",
    "read_recording",
    "rebuild",
    "record",
]
