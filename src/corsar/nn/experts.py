"""Progressive layered extraction, one level: shared and own experts behind a gate for each task (Tang et al., RecSys 2020).

Shape suffixes: B rows, C candidates, I inputs of a candidate, J inputs of a case, X experts, D channels of an expert.
"""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from corsar.nn.dropout import Dropout


def tower(sizes: list[int], dropout: float, last: bool) -> nn.Sequential:
    """Linear maps with ReLU and dropout after each; `last` leaves the last one bare."""
    layers: list[nn.Module] = []
    for index, (inputs, outputs) in enumerate(itertools.pairwise(sizes)):
        layers.append(nn.Linear(inputs, outputs))
        if not (last and index == len(sizes) - 2):
            layers += [nn.ReLU(), Dropout(dropout)]
    return nn.Sequential(*layers)


class TaskExperts(nn.Module):
    """The mix of a task's own and the shared experts, each linear + ReLU, for every candidate.

    The input is split into what differs by candidate and what all candidates of a case share: the shared part is mapped once.
    """

    def __init__(self, tasks: tuple[str, ...], inputs: int, own: int, shared: int, expert_dim: int, dropout: float) -> None:
        super().__init__()
        self.expert_dim = expert_dim
        self.shared = nn.Linear(inputs, shared * expert_dim)
        self.own = nn.ModuleDict({task: nn.Linear(inputs, own * expert_dim) for task in tasks})
        self.gates = nn.ModuleDict({task: nn.Linear(inputs, own + shared) for task in tasks})
        self.drop = Dropout(dropout)

    def forward(self, task: str, candidate_BCI: Tensor, case_BJ: Tensor) -> Tensor:
        """[B, C, D]; the inputs of an expert are the candidate's, then the case's."""
        maps = [m for m in (self.own[task], self.shared, self.gates[task]) if isinstance(m, nn.Linear)]
        weight, bias = torch.cat([m.weight for m in maps]), torch.cat([m.bias for m in maps])
        split, num_gates = candidate_BCI.shape[-1], maps[-1].out_features
        mapped = F.linear(candidate_BCI, weight[:, :split]) + F.linear(case_BJ, weight[:, split:], bias)[:, None]
        experts, gates = mapped[..., :-num_gates], mapped[..., -num_gates:]
        experts = self.drop(F.relu(experts)).unflatten(-1, (-1, self.expert_dim))
        mixed: Tensor = (gates.softmax(-1).unsqueeze(-2) @ experts).squeeze(-2)
        return mixed
