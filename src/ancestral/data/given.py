"""What a model is given of an example, made from the example itself: a smaller or greyer picture, features of sound.

Of a picture it is a picture of the same levels, so that it can be shown, and a user's own picture can take its place; a
model gets it as a map scaled to [-1, 1].
"""

import torch.nn.functional as F
from torch import Tensor

from .mel import Mel

__all__ = ["GIVEN", "Given", "GivenPicture", "Grey", "Small", "as_context"]


class Grey:
    """The luminance of RGB pictures, (19595 R + 38470 G + 7471 B + 32768) >> 16: ITU-R BT.601, rounded as Pillow does.

    Attributes:
        words: what it is, in a sentence.
        factor: by how much it is smaller.
    """

    words = "its grey picture"
    factor = 1

    def channels(self, colours: int) -> int:
        """Return how many channels it has where the examples have C; raise ValueError where they are not RGB."""
        if colours != 3:
            raise ValueError(f"given grey is for RGB pictures, got {colours} channel: leave it out")
        return 1

    def __call__(self, x: Tensor) -> Tensor:
        """Return the grey pictures (N, 1, H, W) of levels `x`, (N, 3, H, W); int64 levels."""
        r, g, b = x.long().unbind(1)
        return ((19595 * r + 38470 * g + 7471 * b + 32768) >> 16)[:, None]


class Small:
    """The picture at a quarter of its size: the mean of each 4x4 pixels, of fewer at the right and lower edge, rounded.

    Attributes:
        words: what it is, in a sentence.
        factor: by how much it is smaller.
    """

    words = "its small picture"
    factor = 4

    def channels(self, colours: int) -> int:
        """Return how many channels it has where the examples have C."""
        return colours

    def __call__(self, x: Tensor) -> Tensor:
        """Return the small pictures (N, C, ceil(H / 4), ceil(W / 4)) of levels `x`, (N, C, H, W); int64 levels."""
        means = F.avg_pool2d(x.double(), self.factor, ceil_mode=True, count_include_pad=False)
        return means.round().long()


GivenPicture = Grey | Small
Given = GivenPicture | Mel

GIVEN: dict[str, Given] = {"grey": Grey(), "small": Small(), "mel": Mel()}


def as_context(picture: Tensor, levels: int) -> Tensor:
    """Return what a model is told of pictures of levels in [0, K): float32 in [-1, 1], of the same shape.

    >>> as_context(Tensor([0, 1, 2]), 3)
    tensor([-1.,  0.,  1.])
    """
    return (picture.double() * (2 / (levels - 1)) - 1).float()
