"""A network for use only: batch normalisations become part of the convolutions before them."""

from __future__ import annotations

from itertools import pairwise

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


def fold_batch_norms(network: nn.Module) -> None:
    """Fold the batch normalisations that follow a convolution in an `nn.Sequential`, in place.

    A normalisation by fixed statistics is a factor and a shift per channel, which weights and bias of the
    convolution can have. The network gives the same but for rounding, and can be trained no longer.

    Args:
        network: in evaluation mode.
    """
    for layers in network.modules():
        if not isinstance(layers, nn.Sequential):
            continue
        for at, (convolution, norm) in enumerate(pairwise(layers)):
            if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                layers[at] = fuse_conv_bn_eval(convolution, norm)
                layers[at + 1] = nn.Identity()
