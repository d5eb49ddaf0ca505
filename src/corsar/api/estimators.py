"""The estimators, one a model; what they can do stands in `estimator.Estimator`."""

from __future__ import annotations

from pathlib import Path

from corsar.api.estimator import Estimator
from corsar.api.forecast_files import find_forecaster, open_forecaster
from corsar.api.forecaster import ForecastEstimator
from corsar.api.forecasters import FORECASTERS
from corsar.api.place_estimators import AutoMTN, Habits, Markov, NearestPlace, PlaceEstimator, Visits, VisitsMarkov
from corsar.artifact import open_artifact
from corsar.errors import ConfigError


class UniSAR(Estimator):
    """UniSAR: one trained model for both tasks, which reads how users move between feed and search.

    Settings, among others (`get_params()` lists all): dim, heads, dropout, item_text; epochs, batch_size, learning_rate,
    num_negatives, tasks; feed_len, search_len, history; seed, device, threads; preset ("corrected" or "paper").

    Example:
        >>> import corsar
        >>> events, items = corsar.example_logs()
        >>> dataset = corsar.Dataset.from_frames(events, items=items)
        >>> model = corsar.UniSAR(dim=8, epochs=1, batch_size=64, align_negatives=8, seed=1).fit(dataset)
        >>> model.recommend(users=["u1", "u2"], k=3, exclude_seen=True).columns
        ['user', 'item', 'score', 'rank']
        >>> model.search("red shoe", users="u1", k=3)["rank"].to_list()
        [1, 2, 3]
        >>> model.recommend(history=[4, {"item_id": 5, "query": "blue"}], k=2).height
        2
        >>> model.similar_items(1, k=2).columns
        ['source', 'item', 'score', 'rank']
    """

    model_name = "unisar"


class Corsar(Estimator):
    """corsar's own model: starts as the rule of `Blend`, and learns its weights and what the rule cannot know.

    Settings, among others: dim, dropout, head, rules, net, gate, leave_out, hard_share, mixer, and those of training as for
    `UniSAR`.

    Example:
        >>> import corsar
        >>> from corsar.api import Corsar
        >>> events, items = corsar.example_logs()
        >>> dataset = corsar.Dataset.from_frames(events, items=items)
        >>> model = Corsar(dim=8, heads=1, epochs=1, batch_size=64, num_negatives=5).fit(dataset)
        >>> model.search("red shoe", users="u1", k=3)["rank"].to_list()
        [1, 2, 3]
    """

    model_name = "corsar"


class SASRec(PlaceEstimator):
    """SASRec: a trained transformer over the merged history; search ranks by the history alone.

    Settings, among others: dim, blocks, heads, dropout, and those of training as for `UniSAR`.

    Example:
        >>> import corsar
        >>> events, _ = corsar.example_logs()
        >>> model = corsar.SASRec(dim=8, blocks=1, epochs=1, batch_size=64).fit(events)
        >>> model
        SASRec(dim=8, blocks=1, epochs=1, batch_size=64)
        >>> model.recommend(history=[[1, 2], [7]], k=2)["user"].to_list()
        [0, 0, 1, 1]
    """

    model_name = "sasrec"


class Popularity(PlaceEstimator):
    """Popularity: the items that were taken most often, for everybody and every query; nothing to set.

    Example:
        >>> import corsar
        >>> events, _ = corsar.example_logs()
        >>> corsar.Popularity().fit(events).recommend("u1", k=2)["score"].is_sorted(descending=True)
        True
    """

    model_name = "popularity"


class CoVisit(Estimator):
    """Co-visits: what others took near the last items of the history. Settings: history_len, reach, tie_weight.

    Example:
        >>> import corsar
        >>> events, _ = corsar.example_logs()
        >>> model = corsar.CoVisit(reach=3).fit(events)
        >>> model.recommend(history=[1, 2], k=3, exclude=[1, 2])["rank"].to_list()
        [1, 2, 3]
    """

    model_name = "covisit"


class BM25(Estimator):
    """BM25: items whose text holds the words of the query; search alone. Settings: k1, b.

    Example:
        >>> import corsar
        >>> events, items = corsar.example_logs()
        >>> model = corsar.BM25().fit(corsar.Dataset.from_frames(events, items=items))
        >>> model.search(["red shoe", "blue hat"], k=1)["item"].to_list()
        [1, 6]
    """

    model_name = "bm25"


class Blend(Estimator):
    """BM25, co-visits and popularity added up: the strongest rule without training. Settings: match, popularity_weight, …

    Example:
        >>> import corsar
        >>> events, items = corsar.example_logs()
        >>> model = corsar.Blend(match="all_words").fit(corsar.Dataset.from_frames(events, items=items))
        >>> model.search("green cup", users=["u1", "u2"], k=1)["item"].to_list()
        [12, 12]
    """

    model_name = "blend"


ALL = (UniSAR, Corsar, SASRec, Popularity, CoVisit, BM25, Blend, AutoMTN, Habits, Visits, Markov, VisitsMarkov, NearestPlace)
ESTIMATORS: dict[str, type[Estimator]] = {one.model_name: one for one in ALL}


def load(path: Path | str) -> Estimator | ForecastEstimator:
    """The estimator that was saved at `path`, whichever it is; a run directory serves too.

    Raises:
        ArtifactError: There is none, or it is damaged.

    Example:
        >>> import corsar, tempfile
        >>> events, _ = corsar.example_logs()
        >>> folder = tempfile.TemporaryDirectory()
        >>> corsar.CoVisit(reach=3).fit(events).save(folder.name + "/model")
        >>> corsar.load(folder.name + "/model")
        CoVisit(reach=3)
        >>> folder.cleanup()
    """
    if find_forecaster(path):
        return FORECASTERS[open_forecaster(path)[1]].load(path)
    artifact = open_artifact(path)
    name = artifact.config.model["name"]
    if name not in ESTIMATORS:
        raise ConfigError(f"there is no estimator for the model {name}; ask it by corsar.recommend and corsar.search")
    return ESTIMATORS[name].of(artifact)
