"""Visits and Markov added up: the strongest rule without training for the next place.

    score(x) = share of x in the history + transition_weight · share of x among the transitions from the last place
               + position_weight · place of the last visit in the history + tie_weight · popularity of x

Cost
    The sum of visits.py and markov.py.

Shape suffixes: B cases, C candidates.
"""

from __future__ import annotations

from collections.abc import Callable

from pydantic import Field
from torch import Tensor

from corsar.batch import SearchRecommendBatch
from corsar.models.base import Model
from corsar.models.markov import Markov, last_places, transitions, transitions_out
from corsar.models.visits import Visited


class VisitsMarkov(Markov):
    """Scores are shares of visits and of transitions."""

    class Config(Model.Config):
        """How the two are weighed, and how ties are broken."""

        name: str = "visits_markov"
        transition_weight: float = Field(0.5, ge=0)
        position_weight: float = Field(1e-6, ge=0)
        tie_weight: float = Field(1e-9, ge=0)  # of popularity

    config: Config  # type: ignore[assignment]

    def scorer(self, batch: SearchRecommendBatch, items_R: Tensor) -> Callable[[Tensor], Tensor]:
        """What scores candidates [B, C] of the same cases, float64; the histories are counted once."""
        width, from_B1 = len(self.counts), last_places(batch)
        visited, config = Visited(batch, width), self.config
        out_B1 = transitions_out(self.pair_keys, self.pair_values, width, from_B1).clamp(min=1)

        def score(candidates_BC: Tensor) -> Tensor:
            visits_BC = visited.counts(candidates_BC) / visited.length_B1.clamp(min=1)
            moved_BC = transitions(self.pair_keys, self.pair_values, width, from_B1, candidates_BC) / out_B1
            ties_BC = config.position_weight * visited.last(candidates_BC) + config.tie_weight * self.counts[candidates_BC]
            return visits_BC + config.transition_weight * moved_BC + ties_BC

        return score
