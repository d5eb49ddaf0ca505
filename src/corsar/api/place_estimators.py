"""The estimators that are asked for the next place of a person."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from corsar.api.check_ins import people_at, read_check_ins, told_check_ins
from corsar.api.engine import best_items
from corsar.api.estimator import Estimator
from corsar.api.past import people_of
from corsar.api.questions import allowed_items, plain, rows_of
from corsar.errors import ConfigError

if TYPE_CHECKING:
    from corsar.api.engine import People
    from corsar.api.estimator import Answer


class PlaceEstimator(Estimator):
    """What the estimators of check-ins share; settings and all other methods are those of every estimator."""

    def next_place(
        self,
        users: Any = None,
        *,
        history: Any = None,
        at: str | int | None = None,
        k: int = 10,
        exclude_seen: bool = False,
        allow: Any = None,
        exclude: Any = None,
    ) -> Answer:
        """The `k` likeliest next places of each user: a frame of user, item, score and rank (1 is best).

        Args:
            users: An id or a list of ids of the logs; one that they do not hold has an empty history.
            history: Where somebody was, the oldest first, in place of what is stored: places, or check-ins as {"item_id": 7,
                "time_ms": 1333475100000, "utc_offset_min": -360}, or a frame of check-ins; or a list of such lists, one a user.
            at: The moment of the question, as ISO 8601 (UTC) or in milliseconds: check-ins at or after it are not history.
            exclude_seen: Leave out the places that a user has been to.
            allow: Places to choose from, in place of the whole catalogue.
            exclude: Places to leave out.

        Raises:
            ConfigError: The model was not trained on check-ins, nobody is named, or `at` cuts a history without times.
        """
        names, people = self._askers(users, history, at)
        people, allowed_I = people_at(self.artifact, people, at), allowed_items(self.artifact, allow, exclude)
        found = best_items(self.artifact, "next_place", people, None, k, allowed_I=allowed_I, exclude_seen=exclude_seen)
        return self._frame({"user": names}, *found, users, history)

    def _askers(self, users: Any, history: Any, at: str | int | None) -> tuple[list[Any], People]:
        """How the askers are called, and what they did."""
        if users is None and history is None:
            raise ConfigError("name users to ask for, or give a history ([] for somebody unknown)")
        names = None if users is None else plain(users)
        if history is None:
            return names or [], self._stored(names or [])
        histories, owners = read_check_ins(history)
        if names is not None and len(names) != len(histories):
            raise ConfigError(f"there are {len(histories)} histories for {len(names)} users; give one a user")
        if at is not None and any(one["time_ms"] is None for some in histories for one in some):
            raise ConfigError("`at` cuts a history by its times; give each check-in a time_ms, or leave `at` out")
        known = names if names is not None else owners
        rows = rows_of(self.artifact.users, known or [], "users")
        user_B = torch.zeros(len(histories), dtype=torch.int64) if known is None else torch.from_numpy(rows)
        people = people_of(self.artifact, told_check_ins(self.artifact, histories), user_B)
        return known if known is not None else list(range(len(histories))), people


class AutoMTN(PlaceEstimator):
    """AutoMTN: a trained model of the next place.

    Settings, among others (`get_params()` lists all): dim, layers, history_len, predictor ("code" or "text"), scale_km;
    epochs, batch_size, learning_rate, drawn_places; target_time; seed, device; preset ("corrected" or "paper").

    Example:
        >>> import corsar
        >>> check_ins, places = corsar.example_check_ins()
        >>> dataset = corsar.Dataset.from_frames(check_ins, items=places)
        >>> model = corsar.AutoMTN(dim=8, layers=1, epochs=1, batch_size=64).fit(dataset)
        >>> model.next_place(["u1", "u2"], k=3).columns
        ['user', 'item', 'score', 'rank']
        >>> model.next_place("u1", at="2012-04-04", k=1, exclude=[1]).height
        1
        >>> model.next_place(history=[[1, 2, 1], [3]], k=2)["user"].to_list()
        [0, 0, 1, 1]
    """

    model_name = "automtn"


class Habits(PlaceEstimator):
    """Habits: a mixture of what a person repeats and of what is new to them, with or without a model of what is new.

    Settings, among others: discovery (the model of what is new and its settings), epochs, batch_size, learning_rate.

    Example:
        >>> import corsar, corsar.api
        >>> check_ins, places = corsar.example_check_ins()
        >>> new = {"name": "automtn", "dim": 8, "layers": 1}
        >>> model = corsar.api.Habits(discovery=new, epochs=1, batch_size=64)
        >>> model.fit(corsar.Dataset.from_frames(check_ins, items=places)).next_place("u0", k=3).height
        3
    """

    model_name = "habits"


class Visits(PlaceEstimator):
    """Visits: how often a person was at each place, the later visited first among equals. Settings: position_weight.

    Example:
        >>> import corsar, corsar.api
        >>> check_ins, places = corsar.example_check_ins()
        >>> model = corsar.api.Visits().fit(corsar.Dataset.from_frames(check_ins, items=places))
        >>> model.next_place("u0", k=3)["item"].sort().to_list()
        [1, 2, 3]
    """

    model_name = "visits"


class Markov(PlaceEstimator):
    """Markov: where people went from the last place. Settings: visits_weight.

    Example:
        >>> import corsar, corsar.api
        >>> check_ins, places = corsar.example_check_ins()
        >>> model = corsar.api.Markov().fit(corsar.Dataset.from_frames(check_ins, items=places))
        >>> model.next_place("u0", k=2)["rank"].to_list()
        [1, 2]
    """

    model_name = "markov"


class VisitsMarkov(PlaceEstimator):
    """Visits and Markov added up: the strongest rule without training for the next place. Settings: transition_weight.

    Example:
        >>> import corsar, corsar.api
        >>> check_ins, places = corsar.example_check_ins()
        >>> model = corsar.api.VisitsMarkov().fit(corsar.Dataset.from_frames(check_ins, items=places))
        >>> model.next_place(["u0", "u1"], k=2)["user"].to_list()
        ['u0', 'u0', 'u1', 'u1']
    """

    model_name = "visits_markov"


class NearestPlace(PlaceEstimator):
    """Nearest place: the places in order of their distance from the last one, which itself comes first; nothing to set.

    Example:
        >>> import corsar, corsar.api
        >>> check_ins, places = corsar.example_check_ins()
        >>> model = corsar.api.NearestPlace().fit(corsar.Dataset.from_frames(check_ins, items=places))
        >>> model.next_place("u0", k=5)["score"].is_sorted(descending=True)
        True
    """

    model_name = "nearest"
