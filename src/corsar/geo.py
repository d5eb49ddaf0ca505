"""Distances on the globe from unit vectors, so that none needs a matrix of all places with all places.

R = 6371 km. With u and v of length one, the haversine formula is 2 R asin(|u - v| / 2): no cosine near 1 loses digits.
A place without coordinates is the vector 0, which is far (6671 km) from all that have some and at no distance from its like.
"""

from __future__ import annotations

import torch
from torch import Tensor

RADIUS_KM = 6371.0


def unit_vectors(lat_lon_deg: Tensor) -> Tensor:
    """Unit vectors of latitudes and longitudes in degrees, [..., 2] -> [..., 3] float32; NaN gives zeros."""
    lat, lon = torch.deg2rad(lat_lon_deg.double()).unbind(-1)
    points = torch.stack([lat.cos() * lon.cos(), lat.cos() * lon.sin(), lat.sin()], -1)
    return torch.where(points.isfinite().all(-1, keepdim=True), points, 0.0).float()


def distance_km(points: Tensor, others: Tensor) -> Tensor:
    """Great-circle distances between unit vectors [..., 3]; shapes are broadcast.

    Source: the haversine formula (R. W. Sinnott, "Virtues of the haversine", Sky & Telescope 68, 1984).
    """
    # three subtractions in place of one of [..., 3]: nothing of three times the size of the answer is ever made
    squared = sum(((points[..., axis] - others[..., axis]) ** 2 for axis in range(3)), torch.zeros(()))
    return 2 * RADIUS_KM * (squared.clamp(max=4.0).sqrt() / 2).asin()
