"""The one engine behind every answer: many questions at once, the catalogue in chunks, the best of each chunk kept.

Shape suffixes: B questions, C candidates, K answers, I item rows, D channels.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from corsar.artifact import Artifact
from corsar.batch import Ragged, SearchRecommendBatch, Task
from corsar.errors import ArtifactError, ConfigError
from corsar.index.vectors import Nearest
from corsar.models.towers import two_tower_of
from corsar.places import PlaceBatch, Places
from corsar.windows import History, make_batch, make_place_batch

PAIRS = 1 << 12  # (question, candidate) pairs scored at once
QUESTIONS = 64  # questions scored at once
ITEMS = 1 << 14  # items embedded at once


@dataclass(frozen=True)
class People:
    """Who asks, and what each of them did before."""

    user_B: Tensor  # user rows; 0 = unknown
    history: History
    owner_B: Tensor  # whose entries of `history`, and whose items of `seen`, are those of each question
    seen: Ragged | None  # distinct items of the whole past
    places: Places | None = None  # for next_place, as are the two below
    end_B: Tensor | None = None  # first entry of `history` that is not past; None: all of it is
    hour_B: Tensor | None = None  # local hour of the week that is asked for, where the model may know it

    def take(self, rows: Tensor) -> People:
        """The given questions alone."""
        some = {name: getattr(self, name) for name in ("user_B", "owner_B", "end_B", "hour_B")}
        return replace(self, **{name: value[rows] for name, value in some.items() if value is not None})


def stored_people(artifact: Artifact, user_B: Tensor) -> People:
    """Users of the logs with what the artifact holds of them."""
    return People(user_B, artifact.history, user_B, artifact.seen, artifact.places)


def best_items(
    artifact: Artifact,
    task: Task,
    people: People,
    queries: Ragged | None,
    k: int,
    *,
    allowed_I: Tensor | None = None,
    exclude_seen: bool = False,
    banned: Ragged | None = None,
) -> tuple[Tensor, Tensor]:
    """The best items of each question: rows and scores, [B, K] each, the best first; equal scores stand in catalogue order.

    Args:
        queries: word rows of the query of each question, for search.
        allowed_I: which item rows may be answered, bool; None for all.
        exclude_seen: leave out what stands in the past of whoever asks; where too little is left, rows are 0 and scores -inf.
        banned: item rows to leave out of the answer of each question, in place of `exclude_seen`.

    Raises:
        ConfigError: the model has no such task, `k` is less than one, or a score is not finite.
    """
    if k < 1:
        raise ConfigError(f"k is {k}; ask for at least one item")
    require_task(artifact, task)
    if exclude_seen:
        if people.seen is None:
            raise ArtifactError(f"{artifact.path} does not hold what users have seen; train again with this version of corsar")
        banned = people.seen.select(people.owner_B)
    candidates = torch.arange(1, artifact.catalogue.num_items + 1)
    if allowed_I is not None:
        candidates = candidates[allowed_I[1:]]
    width = min(k, len(candidates))
    none = 0 if width else len(people.user_B)  # rows of an empty answer to everybody
    parts = [(torch.zeros(none, width, dtype=torch.int64), torch.zeros(none, width))]
    with torch.inference_mode():
        for rows in torch.split(torch.arange(len(people.user_B)), QUESTIONS) if width else []:
            asked = None if queries is None else queries.select(rows)
            left_out = None if banned is None else banned.select(rows)
            parts.append(_best(artifact, task, people.take(rows), asked, width, candidates, left_out))
    found, scores = zip(*parts, strict=True)
    return torch.cat(found), torch.cat([part.to(scores[-1].dtype) for part in scores])


def can_answer(artifact: Artifact, task: Task) -> bool:
    """Whether the model was trained for the task."""
    return task in artifact.model.tasks and task in artifact.config.train.tasks


def require_task(artifact: Artifact, task: Task) -> None:
    """ConfigError where the model was not trained for the task."""
    if not can_answer(artifact, task):
        raise ConfigError(f"this {artifact.config.model['name']} was not trained for {task}; ask a model that was")


def best_of(
    artifact: Artifact,
    task: Task,
    people: People,
    queries: Ragged | None,
    candidates_BC: Tensor,
    batch: SearchRecommendBatch | None = None,
) -> tuple[Tensor, Tensor]:
    """The given candidates in the order of their scores: rows and scores, [B, C] each; equal scores in catalogue order.

    Args:
        candidates_BC: item rows, each once a question, 0 pads; pads come last, with scores of -inf.
        batch: the questions as `question_batch` makes them, where it is at hand.
    """
    with torch.inference_mode():
        candidates_BC = candidates_BC.sort(dim=1).values
        batch = question_batch(artifact, task, people, queries) if batch is None else batch
        scorer = artifact.model.scorer(batch, torch.unique(candidates_BC))
        scores_BC = _finite(artifact, scorer(candidates_BC)).masked_fill(candidates_BC == 0, -torch.inf)
        best = scores_BC.sort(dim=1, descending=True, stable=True)
        return candidates_BC.gather(1, best.indices), best.values


def _best(
    artifact: Artifact, task: Task, people: People, queries: Ragged | None, k: int, candidates: Tensor, banned: Ragged | None
) -> tuple[Tensor, Tensor]:
    num = len(people.user_B)
    whole = question_batch(artifact, task, people, queries)
    banned_BI = None
    if banned is not None and len(banned.values):
        banned_BI = torch.zeros(num, artifact.catalogue.num_items + 1, dtype=torch.bool)
        banned_BI[torch.repeat_interleave(banned.lengths), banned.values] = True
    best_BK, rows_BK = None, torch.zeros(num, 0, dtype=torch.int64)
    scorer = artifact.model.scorer(whole, candidates)
    for some_C in torch.split(candidates, max(1, PAIRS // num)):
        scores_BC = _finite(artifact, scorer(some_C.expand(num, -1)))
        if banned_BI is not None:
            scores_BC = scores_BC.masked_fill(banned_BI[:, some_C], -torch.inf)
        scores_BC = scores_BC if best_BK is None else torch.cat([best_BK, scores_BC], 1)
        rows_BC = torch.cat([rows_BK, some_C.expand(num, -1)], 1)
        best = scores_BC.sort(dim=1, descending=True, stable=True)
        best_BK, rows_BK = best.values[:, :k], rows_BC.gather(1, best.indices[:, :k])
    assert best_BK is not None
    return rows_BK.masked_fill(best_BK == -torch.inf, 0), best_BK


def _finite(artifact: Artifact, scores_BC: Tensor) -> Tensor:
    if torch.isfinite(scores_BC).all():
        return scores_BC
    raise ConfigError(
        f"this {artifact.config.model['name']} has no finite score for a history with an empty side; "
        'ask for users with both, or train with model.empty_history = "zero"'
    )


def question_batch(artifact: Artifact, task: Task, people: People, queries: Ragged | None) -> SearchRecommendBatch:
    """The questions with their windows and without candidates."""
    past, owner_B = people.history, people.owner_B
    if task == "next_place":
        return place_batch(artifact, people)
    feed_end_B, search_end_B = past.feed_offsets[owner_B + 1], past.search_offsets[owner_B + 1]
    if artifact.config.data.history == "own" and task == "recommend":
        search_end_B = past.search_offsets[owner_B]
    elif artifact.config.data.history == "own":
        feed_end_B = past.feed_offsets[owner_B]
    batch = make_batch(
        task, past, artifact.catalogue, owner_B, feed_end_B, search_end_B, torch.zeros(len(owner_B), 0, dtype=torch.int64),
        None if queries is None else torch.arange(len(owner_B)), queries=queries,
        feed_len=artifact.sizes.feed_len, search_len=artifact.sizes.search_len,
    )  # fmt: skip
    return replace(batch, user_B=people.user_B)


def place_batch(artifact: Artifact, people: People) -> PlaceBatch:
    """Questions for the next place with their windows and without candidates."""
    past, owner_B = people.history, people.owner_B
    if people.places is None:
        raise ArtifactError(f"{artifact.path} does not hold where places are; train again on a dataset of check-ins")
    end_B = past.feed_offsets[owner_B + 1] if people.end_B is None else people.end_B
    batch = make_place_batch(
        past, people.places, artifact.catalogue, owner_B, end_B, torch.zeros(len(owner_B), 0, dtype=torch.int64), people.hour_B,
        length=artifact.sizes.feed_len,
    )  # fmt: skip
    return replace(batch, user_B=people.user_B)


def similar_rows(artifact: Artifact, rows_B: Tensor, k: int, vectors_ID: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The items most like the given ones, themselves left out: rows and scores, [B, K] each, the best first.

    Args:
        vectors_ID: `item_vectors` of a trained model, where they are at hand.
    """
    if k < 1:
        raise ConfigError(f"k is {k}; ask for at least one item")
    model, catalogue = artifact.model, artifact.catalogue
    k = min(k, catalogue.num_items - 1)
    parts = [(torch.zeros(0, k, dtype=torch.int64), torch.zeros(0, k))]
    with torch.inference_mode():
        if vectors_ID is None and model.trained and len(rows_B):
            vectors_ID = item_vectors(artifact)
        for some_B in torch.split(rows_B, QUESTIONS) if len(rows_B) else []:
            if vectors_ID is None:
                scores_BI = model.similar(some_B, catalogue).clone()
            else:
                scores_BI = vectors_ID[some_B] @ vectors_ID.T
            scores_BI[:, 0] = -torch.inf
            scores_BI.scatter_(1, some_B[:, None], -torch.inf)
            best = scores_BI.topk(k)
            rows_BK, order_BK = best.indices.sort(1)
            ranked = best.values.gather(1, order_BK).sort(dim=1, descending=True, stable=True)
            parts.append((rows_BK.gather(1, ranked.indices), ranked.values))
    found, scores = zip(*parts, strict=True)
    return torch.cat(found), torch.cat([part.to(scores[-1].dtype) for part in scores])


def nearest_items(artifact: Artifact) -> Nearest | None:
    """What finds items by the two towers of the model; None where it was trained without them."""
    towers = two_tower_of(artifact.model)
    return None if towers is None else Nearest(artifact.model, towers, _of_nobody(artifact))


def _of_nobody(artifact: Artifact) -> SearchRecommendBatch:
    nobody = torch.zeros(1, dtype=torch.int64)
    return question_batch(artifact, artifact.config.train.tasks[0], stored_people(artifact, nobody), None)


def item_vectors(artifact: Artifact) -> Tensor:
    """Vectors of length one of all item rows of a trained model, [I, D]."""
    batch = _of_nobody(artifact)
    rows_I = torch.arange(artifact.catalogue.num_items + 1)
    with torch.inference_mode():
        return torch.cat([F.normalize(artifact.model.item_vectors(batch, some), dim=1) for some in torch.split(rows_I, ITEMS)])
