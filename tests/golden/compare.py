"""How far our numbers are from published ones."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

Errors = dict[str, tuple[float, float]]  # quantity -> (relative error, tolerance)


def relative(ours: Tensor, published: np.ndarray) -> float:
    """Norm of the difference over the norm of the published value."""
    theirs = torch.from_numpy(np.asarray(published))
    assert ours.shape == theirs.shape, f"shape {tuple(ours.shape)}, published {tuple(theirs.shape)}"
    return float((ours.detach() - theirs).norm() / theirs.norm().clamp(min=1e-12))
