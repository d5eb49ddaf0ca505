"""Distances on the globe against the haversine formula written out."""

import math

import pytest
import torch

from corsar.geo import distance_km, unit_vectors


def haversine(one: tuple[float, float], two: tuple[float, float]) -> float:
    (lat1, lon1), (lat2, lon2) = ([math.radians(x) for x in point] for point in (one, two))
    a = math.sin((lat2 - lat1) / 2) ** 2 + math.cos(lat1) * math.cos(lat2) * math.sin((lon2 - lon1) / 2) ** 2
    return 2 * 6371 * math.asin(min(1, math.sqrt(a)))


PLACES = [
    (51.0447, -114.0719),
    (51.0447, -114.0720),
    (33.4484, -112.074),
    (0.0, 180.0),
    (0.0, -179.9),
    (90.0, 12.0),
    (-90.0, 0.0),
]


def test_geo_distances_are_those_of_the_formula() -> None:
    points = unit_vectors(torch.tensor(PLACES, dtype=torch.float64))
    found = distance_km(points[:, None], points)
    for row, one in enumerate(PLACES):
        for column, two in enumerate(PLACES):
            assert found[row, column].item() == pytest.approx(haversine(one, two), abs=2e-3, rel=2e-4)
    assert found.diagonal().abs().max() == 0


def test_geo_unknown_coordinates_are_far_from_all_others() -> None:
    points = unit_vectors(torch.tensor([[float("nan"), 1.0], [51.0, -114.0], [float("nan"), float("nan")]]))
    assert distance_km(points[0], points[1]) > 6000
    assert distance_km(points[0], points[2]) == 0
