"""AutoMTN and its return head: losses, what a distance does, sampled catalogues, presets."""

import copy
import dataclasses
import re
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

sys.path.insert(0, str(Path(__file__).parent))
from place_kit import check_ins, make_city, settings

from corsar.config import load_config
from corsar.data.build import build_dataset
from corsar.data.loader import TrainLoader
from corsar.data.store import Dataset, open_dataset
from corsar.errors import ConfigError
from corsar.geo import distance_km
from corsar.models.automtn import AutoMTNNet
from corsar.models.compared import compared_rows
from corsar.models.habits import GAIN, HabitsNet
from corsar.models.returns import LATER, POPULAR, UNSEEN, ReturnHead, visits_of
from corsar.models.visits_markov import VisitsMarkov
from corsar.places import PlaceBatch
from corsar.schema import make_tables
from corsar.train.loop import fresh_model


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return open_dataset(make_city(tmp_path_factory.mktemp("city") / "dataset"))


def net(dataset: Dataset, **told: str) -> tuple[AutoMTNNet, TrainLoader]:
    keys = {"model__name": "automtn", "model__dim": "8", "model__history_len": "9", **told}
    model, config = fresh_model(settings(dataset.path, **keys), dataset)
    assert isinstance(model, AutoMTNNet)
    return model.eval(), TrainLoader(dataset, config.data, config.train, 0)


def habits(dataset: Dataset, discovery: str = "{}", **told: str) -> tuple[HabitsNet, TrainLoader]:
    keys = {"model__name": "habits", "model__discovery": discovery, **told}
    model, config = fresh_model(settings(dataset.path, **keys), dataset)
    assert isinstance(model, HabitsNet)
    return model.eval(), TrainLoader(dataset, config.data, config.train, 0)


def step(loader: TrainLoader, number: int = 0) -> PlaceBatch:
    batch = loader.step(number, 0)["next_place"]
    assert isinstance(batch, PlaceBatch)
    return batch


def whole(batch: PlaceBatch, num_items: int) -> PlaceBatch:
    return dataclasses.replace(batch, candidates_BC=torch.arange(1, num_items + 1).expand(len(batch), -1))


def behind(predictor: str = "code") -> str:
    """What `net` makes, as the model of what is new."""
    return f'{{name = "automtn", dim = 8, history_len = 9, predictor = "{predictor}"}}'


@pytest.mark.parametrize("predictor", ["code", "text"])
@pytest.mark.parametrize("head", [True, False])
def test_automtn_loss_is_the_cross_entropy_of_its_scores(dataset: Dataset, predictor: str, head: bool) -> None:
    model, loader = habits(dataset, behind(predictor)) if head else net(dataset, model__predictor=predictor)
    batch = step(loader)
    logits = model.score(whole(batch, loader.catalogue.num_items))
    expected = F.cross_entropy(logits, batch.candidates_BC[:, 0] - 1)
    torch.testing.assert_close(model.loss(batch)["place"], expected, rtol=1e-5, atol=1e-6)


def test_automtn_loss_over_drawn_places_is_right_in_the_mean(dataset: Dataset) -> None:
    model, loader = net(dataset, train__drawn_places="6")
    batch, num_items = step(loader), loader.catalogue.num_items
    target_B = batch.candidates_BC[:, 0]
    rows_R, at_B, extra_R = compared_rows(num_items, target_B, batch.drawn_N)
    assert torch.equal(rows_R[at_B], target_B)
    full = dataclasses.replace(batch, drawn_N=None)
    logits = model.place_logits(model.encode(batch), model.places.value.weight[1:], batch.points_I3[1:])
    sampled = (logits[:, rows_R[1:] - 1] + extra_R[1:]).logsumexp(1) - logits.gather(1, target_B[:, None] - 1)[:, 0]
    torch.testing.assert_close(model.loss(batch)["place"], sampled.mean())
    headed, _ = habits(dataset, behind(), train__drawn_places="6")
    assert headed.loss(batch)["place"] != headed.loss(full)["place"]
    assert model.loss(batch)["place"] != model.loss(full)["place"]
    sums = []
    for number in range(600):
        drawn = torch.randperm(num_items, generator=torch.Generator().manual_seed(number))[:6] + 1
        rows_R, _, extra_R = compared_rows(num_items, target_B[3:4], drawn)
        sums.append((logits[3, rows_R[1:] - 1] + extra_R[1:]).exp().sum())
    found = torch.stack(sums)
    assert abs(found.mean() - logits[3].exp().sum()) < 4 * found.std() / len(sums) ** 0.5


@pytest.mark.parametrize("predictor", ["code", "text"])
def test_automtn_nearness_falls_with_distance(dataset: Dataset, predictor: str) -> None:
    model, loader = net(dataset, model__predictor=predictor)
    window = model.encode(step(loader))
    near = model.nearness(window, torch.tensor([[[0.0, 1.0, 10.0, 100.0]]]))[0, 0]
    assert (near.diff() < 0).all()


def test_automtn_predictors_are_as_written_down(dataset: Dataset) -> None:
    batch = step(net(dataset)[1])
    for predictor in ("code", "text"):
        model, loader = net(dataset, model__predictor=predictor)
        window = model.encode(batch)
        scores = model.score(whole(batch, loader.catalogue.num_items))
        for row, place in ((0, 3), (5, 7)):
            real = window.is_real_BL[row]
            h, e = window.place_BLD[row][real], model.places.value.weight[place]
            km = distance_km(window.points_BL3[row][real], batch.points_I3[place])
            km = torch.where(window.places_BL[row][real] > 0, km, 0)
            if predictor == "code":
                assert model.mix is not None
                weights = model.mix.weight[0, -int(real.sum()) :]
                expected = (weights * (h @ e) * torch.exp(-km / model.config.scale_km)).sum() + model.mix.bias[0]
            else:
                slope, scale = F.softplus(model.decay)  # type: ignore[arg-type]
                share = (h @ e - slope * torch.log1p(km / (scale * model.config.scale_km))).softmax(0)
                expected = (share * (h @ e)).sum()
            torch.testing.assert_close(scores[row, place - 1], expected, rtol=1e-4, atol=1e-5)


def test_automtn_return_head_is_the_mixture_as_written_down(dataset: Dataset) -> None:
    model, loader = habits(dataset, behind())
    batch, num_items = step(loader), loader.catalogue.num_items
    head, plain = model.returns, model.discovery
    scramble(head)
    torch.nn.init.constant_(model.gain, 0.07)
    every = whole(batch, num_items)
    found, weights, gate = model.score(every), head.weigh(batch), head._moves(batch)[0]
    discovered = GAIN * model.gain * plain.score(every)
    share = POPULAR * (head.popularity[1:] + UNSEEN) / head.popularity.sum()
    moves = moves_of(dataset)
    for row in range(len(batch)):
        past = batch.feed_items_BF[row][batch.feed_is_real_BF[row]]
        new = discovered[row].index_fill(0, past - 1, 0)  # the model has no say in where the person has been
        mass = (new + head.bias.weight[1:, 0]).exp() * share
        for at, place in enumerate(past.tolist()):
            mass[place - 1] += weights[row, at].exp()
        if len(past):
            mass += gate[row].exp() * moves[past[-1], 1:] / moves[past[-1]].sum().clamp(min=1)
        torch.testing.assert_close(found[row], mass.log(), rtol=1e-4, atol=1e-4)


def test_automtn_return_head_begins_as_visits_and_markov(dataset: Dataset) -> None:
    model, loader = habits(dataset, behind())
    every, head = whole(step(loader), loader.catalogue.num_items), model.returns
    tie = POPULAR / float(head.popularity.sum())
    rule = VisitsMarkov(VisitsMarkov.Config(position_weight=LATER, tie_weight=tie), model.sizes)
    rule.count(dataset.train_events(), dataset.catalogue)
    found = model.score(every).exp().double() - tie * UNSEEN
    some = every.feed_is_real_BF.any(1)
    torch.testing.assert_close(found[some], rule.score(every)[some], rtol=0.02, atol=1e-4)


def test_automtn_return_head_leaves_its_own_target_out_of_the_counts(dataset: Dataset) -> None:
    """In training, a case's loss is what the head gives where that check-in was never counted."""
    model, loader = habits(dataset)
    batch, head, events = step(loader), model.returns, dataset.train_events()
    scramble(head)
    for row in range(8):
        one = batch.take(torch.tensor([row]))
        past = int(one.feed_is_real_BF.sum())
        gone = int((events.user_E == one.user_B).nonzero()[0]) + past
        assert events.item_E[gone] == one.candidates_BC[0, 0]
        told = model.train().loss(one)["place"]
        moves, counts = moves_of(dataset), head.popularity.clone()
        if past:
            moves[events.item_E[gone - 1], events.item_E[gone]] -= 1
        counts[events.item_E[gone]] -= 1
        fewer = copy.deepcopy(model)
        at = moves.nonzero()
        fewer.returns.pair_keys, fewer.returns.pair_values = at[:, 0] * len(moves) + at[:, 1], moves[moves > 0]
        fewer.returns.popularity = counts
        shrunk = (head.popularity.sum() / counts.sum()).log()  # the popularity of all is not counted anew for each case
        fewer.returns.bias.weight.data[1:] -= shrunk
        torch.testing.assert_close(told, fewer.eval().loss(one)["place"], rtol=1e-4, atol=1e-5)


def scramble(head: ReturnHead) -> None:
    """Weights far from those that it begins with."""
    for weight in (head.bias.weight, head.outer.weight, head.moved.weight, head.moved.bias):
        torch.nn.init.normal_(weight)


def moves_of(dataset: Dataset) -> torch.Tensor:
    """How often people went from one place to another, [items + 1, items + 1]."""
    events = dataset.train_events()
    same = events.user_E[1:] == events.user_E[:-1]
    table = torch.zeros(dataset.catalogue.num_items + 1, dataset.catalogue.num_items + 1)
    return table.index_put((events.item_E[:-1][same], events.item_E[1:][same]), torch.ones(int(same.sum())), accumulate=True)


def test_automtn_visits_are_counted_row_by_row() -> None:
    places = torch.tensor([[3, 5, 3, 0], [2, 2, 2, 4], [0, 0, 0, 0]])
    real = torch.tensor([[True, True, True, False], [True] * 4, [False] * 4])
    count, is_new, is_last, age = visits_of(places, real)
    assert is_new.tolist() == [[True, True, False, False], [True, False, False, True], [False] * 4]
    assert count[:2, :3].tolist() == [[2, 1, 2], [3, 3, 3]]
    assert is_last[:2, :3].tolist() == [[False, True, True], [False, False, True]]
    assert age[:2, :3].tolist() == [[0, 1, 0], [1, 1, 1]]


def test_automtn_trains_without_categories_and_coordinates(tmp_path: Path) -> None:
    tables = make_tables(check_ins(), source="bare")
    data = open_dataset(build_dataset(tables, tmp_path / "bare", split="leave_last"))
    model, loader = net(data)
    terms = model.train().loss(step(loader))
    assert set(terms) == {"place"}
    terms["place"].backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_automtn_paper_preset_is_explicit_keys() -> None:
    config = load_config(None, {"preset": "paper", "model.name": "automtn"})
    assert config.model == {
        "name": "automtn", "lags": "paper_short", "lengths": "fixed", "distance": "batch_range", "residual": False,
    }  # fmt: skip
    assert not config.data.require_both_histories
    assert config.evaluate.ties == "expected"
    assert load_config(None, {"preset": "paper", "model.name": "automtn", "model.residual": "true"}).model["residual"]


@pytest.mark.parametrize(
    ("told", "sentence"),
    [
        ('{name = "sasrec"}', 'it needs a name, one of automtn, as in {name = "automtn"}'),
        ('{name = "automtn", dims = 8}', "dims: extra inputs are not permitted"),
    ],
)
def test_habits_says_what_is_wrong_with_its_discovery(dataset: Dataset, told: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(sentence)):
        habits(dataset, told)
