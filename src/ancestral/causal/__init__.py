"""Causality and memory: layers that run whole, by row or by pixel, and the cursor that remembers for them."""

from ancestral.causal.conv import CausalConv1d, CausalConv2d, RowConv2d, gate
from ancestral.causal.cursor import Cursor
from ancestral.causal.masked import MaskedConv2d, begin_row

__all__ = ["CausalConv1d", "CausalConv2d", "Cursor", "MaskedConv2d", "RowConv2d", "begin_row", "gate"]
