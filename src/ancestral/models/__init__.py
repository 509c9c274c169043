"""The models, one paper to a file."""

from ancestral.model import Model
from ancestral.models.gated_pixelcnn import GatedPixelCNN
from ancestral.models.hierarchical_vae import HierarchicalVAE
from ancestral.models.made import MADE
from ancestral.models.multiscale import MultiScalePixelRNN
from ancestral.models.pixel_vae import PixelVAE
from ancestral.models.pixelcnn import PixelCNN
from ancestral.models.pixelcnnpp import PixelCNNpp
from ancestral.models.pixelrnn import DiagonalBiLSTM, RowLSTM
from ancestral.models.pixelsnail import PixelSNAIL
from ancestral.models.wavenet import WaveNet

__all__ = [
    "MADE",
    "MODELS",
    "DiagonalBiLSTM",
    "GatedPixelCNN",
    "HierarchicalVAE",
    "MultiScalePixelRNN",
    "PixelCNN",
    "PixelCNNpp",
    "PixelSNAIL",
    "PixelVAE",
    "RowLSTM",
    "WaveNet",
]

MODELS: dict[str, type[Model]] = {
    "made": MADE,
    "pixelcnn": PixelCNN,
    "row-lstm": RowLSTM,
    "diagonal-bilstm": DiagonalBiLSTM,
    "multi-scale-pixelrnn": MultiScalePixelRNN,
    "gated-pixelcnn": GatedPixelCNN,
    "pixelcnn++": PixelCNNpp,
    "pixelsnail": PixelSNAIL,
    "wavenet": WaveNet,
    "hierarchical-vae": HierarchicalVAE,
    "pixel-vae": PixelVAE,
}
