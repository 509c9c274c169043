"""Causality and memory: layers that run whole, by row or by pixel, and the cursor that remembers for them."""

from ancestral.causal.conv import CausalConv1d, CausalConv2d, RowConv2d, gate
from ancestral.causal.cursor import Cursor
from ancestral.causal.dilated import DilatedStack
from ancestral.causal.masked import MaskedConv2d, begin_row
from ancestral.causal.resolution import HalfResolution
from ancestral.causal.shifted import CornerConv2d, DownShiftedConv2d, Nin
from ancestral.causal.weightnorm import WeightNorm

__all__ = [
    "CausalConv1d",
    "CausalConv2d",
    "CornerConv2d",
    "Cursor",
    "DilatedStack",
    "DownShiftedConv2d",
    "HalfResolution",
    "MaskedConv2d",
    "Nin",
    "RowConv2d",
    "WeightNorm",
    "begin_row",
    "gate",
]
