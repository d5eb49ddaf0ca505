"""What several processes need of a trained model: shares of a batch that gather their rows make the loss of the whole batch."""

import dataclasses
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from corsar.batch import SearchRecommendBatch, Task
from corsar.models.base import Model

sys.path.insert(0, str(Path(__file__).parent))
from test_models import EVERYONE, TRAINED, build
from world import batch_of

# row numbers of each process: fair shares; one that has no history at all; one that has no search; three processes
SHARES = [
    [[0, 2, 4, 6], [1, 3, 5, 7]],
    [[1, 7], [0, 2, 3, 4, 5, 6]],
    [[2], [0, 1, 3, 4, 5, 6, 7]],
    [[0, 3], [1, 2, 6], [4, 5, 7]],
]


def losses(model: Model, batch: SearchRecommendBatch) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Terms and gradients of their sum."""
    model.zero_grad()
    terms = model.loss(batch)
    torch.stack(list(terms.values())).sum().backward()
    gradients = {name: torch.zeros_like(p) if p.grad is None else p.grad.clone() for name, p in model.named_parameters()}
    return {name: term.detach() for name, term in terms.items()}, gradients


def in_shares(
    model: Model, batch: SearchRecommendBatch, shares: list[list[int]]
) -> list[tuple[dict[str, Tensor], dict[str, Tensor]]]:
    """The same as each of several processes has it; they are played one after another."""
    parts = [batch.take(torch.tensor(rows)) for rows in shares]
    told: list[list[Tensor]] = [[] for _ in shares]
    for rank, part in enumerate(parts):
        model.loss(dataclasses.replace(part, gather=lambda rows, rank=rank: told[rank].append(rows.detach()) or rows))
    assert len({len(one) for one in told}) == 1, "all processes must gather equally often, or they wait for ever"
    found = []
    for rank, part in enumerate(parts):
        calls = iter(range(len(told[0])))

        def gather(rows: Tensor, rank: int = rank, calls: "iter[int]" = calls) -> Tensor:  # type: ignore[valid-type]
            at = next(calls)
            all_rows = [one[at] for one in told]
            all_rows[rank] = rows * len(shares) - rows.detach() * (
                len(shares) - 1
            )  # the value of rows, their gradient times all
            return torch.cat(all_rows)

        found.append(losses(model, dataclasses.replace(part, gather=gather)))
    return found


@pytest.mark.parametrize("shares", SHARES, ids=str)
@pytest.mark.parametrize(("name", "task"), TRAINED)
def test_shares_make_the_loss_of_the_whole(name: str, task: Task, shares: list[list[int]]) -> None:
    model, batch = build(name).double(), batch_of(task, EVERYONE)
    terms, gradients = losses(model, batch)
    found = in_shares(model, batch, shares)
    for one, _ in found:
        assert one.keys() == terms.keys()
        for term, value in terms.items():
            assert one[term].item() == pytest.approx(value.item(), rel=1e-6)
    for parameter, gradient in gradients.items():
        mean = torch.stack([theirs[parameter] for _, theirs in found]).mean(0)
        torch.testing.assert_close(mean, gradient, rtol=1e-4, atol=1e-6)
