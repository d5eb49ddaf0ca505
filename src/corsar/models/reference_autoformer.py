"""The key map from the weights of the published Autoformer (thuml/Autoformer 51c7d41) to the module here."""

from __future__ import annotations

import re

from torch import Tensor

_NAMES = (  # what stands there -> what stands here, one after another
    (r"^enc_embedding\.", "embed_past."),
    (r"^dec_embedding\.", "embed_start."),
    (r"\.value_embedding\.tokenConv\.", ".values."),
    (r"\.temporal_embedding\.embed\.", ".marks."),
    (r"^encoder\.attn_layers\.", "encoder."),
    (r"^decoder\.layers\.", "decoder."),
    (r"^(encoder|decoder)\.norm\.layernorm\.", r"\1_norm.norm."),
    (r"^decoder\.projection\.", "out_map."),
    (r"^(decoder\.\d+)\.projection\.", r"\1.trend."),
    (r"\.(self|cross)_attention\.", r".\1_correlation."),
    (r"\.attention\.", ".correlation."),
    (r"\.(query|key|value|out)_projection\.", r".\1_map."),
    (r"\.conv1\.", ".feed_forward.up."),
    (r"\.conv2\.", ".feed_forward.down."),
)


def autoformer_weights(published: dict[str, Tensor]) -> dict[str, Tensor]:
    """The state dict of an `AutoformerNet` from the published parameters."""
    return {_name(name): _matrix(tensor) for name, tensor in published.items()}


def _name(published: str) -> str:
    for theirs, ours in _NAMES:
        published = re.sub(theirs, ours, published)
    return published


def _matrix(tensor: Tensor) -> Tensor:
    """A convolution's weight as that of a linear map of its steps side by side."""
    return tensor.transpose(1, 2).flatten(1) if tensor.dim() == 3 else tensor
