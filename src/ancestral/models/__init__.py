"""The models, one paper to a file."""

from ancestral.model import Model
from ancestral.models.gated_pixelcnn import GatedPixelCNN
from ancestral.models.made import MADE
from ancestral.models.pixelcnn import PixelCNN
from ancestral.models.pixelcnnpp import PixelCNNpp
from ancestral.models.pixelsnail import PixelSNAIL

__all__ = ["MADE", "MODELS", "GatedPixelCNN", "PixelCNN", "PixelCNNpp", "PixelSNAIL"]

MODELS: dict[str, type[Model]] = {
    "made": MADE,
    "pixelcnn": PixelCNN,
    "gated-pixelcnn": GatedPixelCNN,
    "pixelcnn++": PixelCNNpp,
    "pixelsnail": PixelSNAIL,
}
