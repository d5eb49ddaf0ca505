"""Training negatives, drawn on the device: uniform over the items that the user has not in the training part.

Each number is a hash of (key, case, slot, attempt), so a case gets the same negatives in whatever batch it stands, on any
device. No item is drawn and thrown away: the r-th item that is free for a user is found by one binary search.

Legend: B cases, N negatives.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from corsar.batch import OnDevice, Ragged

ATTEMPTS = 16  # draws before a session mate that is not in the training part is let through as no better can be had
_MASK = (1 << 62) - 1


def _mix(x: Tensor) -> Tensor:
    """The finaliser of SplitMix64 on int64, whose products wrap as unsigned ones do."""
    for shift, factor in ((30, -0x40A7B892E31B1A47), (27, -0x6B2FB644ECCEEE15)):
        x = (x ^ ((x >> shift) & ((1 << (64 - shift)) - 1))) * factor
    return x ^ ((x >> 31) & ((1 << 33) - 1))


def hashed(key: int, *parts: Tensor) -> Tensor:
    """Numbers in 0 … 2**62 - 1 that depend on the key and the parts alone; parts are broadcast."""
    state = torch.tensor(key, dtype=torch.int64, device=parts[0].device)
    for part in parts:
        state = _mix(state + (part + 1) * -0x61C8864680B583EB)
    return state & _MASK


@dataclass(frozen=True)
class Negatives(OnDevice):
    """What each user must not get as a negative, laid out for `draw`."""

    num_items: int
    pairs: Tensor  # [pairs] user * (num_items + 1) + item of the training part, sorted, each once
    gaps: Tensor  # [pairs] user * (num_items + 1) + how many items below this one are free for the user, sorted
    offsets: Tensor  # [users + 2] pairs of each user row

    @staticmethod
    def of(user_E: Tensor, item_E: Tensor, num_users: int, num_items: int) -> Negatives:
        """From the training events: (user, item) pairs, in any order, repeats allowed."""
        wide = num_items + 1
        pairs = torch.unique(user_E * wide + item_E)
        users, items = pairs // wide, pairs % wide
        offsets = torch.searchsorted(users, torch.arange(num_users + 2, device=pairs.device))
        place = torch.arange(len(pairs), device=pairs.device) - offsets[users]
        return Negatives(num_items, pairs, users * wide + items - 1 - place, offsets)

    def has(self, user: Tensor, item: Tensor) -> Tensor:
        """Whether each item is in the user's training part; bool, of the shape of `user`."""
        key = user * (self.num_items + 1) + item
        at = torch.searchsorted(self.pairs, key).clamp(max=max(0, len(self.pairs) - 1))
        return self.pairs[at] == key if len(self.pairs) else torch.zeros_like(key, dtype=torch.bool)

    def _once(self, user_B: Tensor, target_B: Tensor, random_BN: Tensor) -> Tensor:
        wide = self.num_items + 1
        starts_B1 = self.offsets[user_B][:, None]
        free_B1 = self.num_items - (self.offsets[user_B + 1][:, None] - starts_B1)
        at_BN = random_BN % free_B1.clamp(min=1)
        below_BN = torch.searchsorted(self.gaps, user_B[:, None] * wide + at_BN, right=True) - starts_B1
        item_BN = at_BN + 1 + below_BN
        # a user who has all items: any item but the target
        other_BN = random_BN % max(1, self.num_items - 1) + 1
        other_BN = other_BN + (other_BN >= target_B[:, None])
        return torch.where(free_B1 > 0, item_BN, other_BN)

    def draw(self, case_B: Tensor, user_B: Tensor, target_B: Tensor, num: int, key: int, mates: Ragged | None) -> Tensor:
        """Item rows [B, num], never an item of the user's training part, nor the target, nor a session mate.

        Args:
            case_B: the number of each case; with `key` it settles the draw.
            mates: items clicked together with the target, where they are not all in the training part. If a user has
                next to no other item free, a mate may remain after `ATTEMPTS` draws.
        """
        slot_N = torch.arange(num, device=case_B.device)
        random_BN = hashed(key, case_B[:, None], slot_N)
        item_BN = self._once(user_B, target_B, random_BN)
        if mates is None or not len(mates.values):
            return item_BN
        width = max(1, int(mates.lengths.max()))
        mates_BM = mates.padded(torch.arange(len(mates), device=case_B.device), width)
        for attempt in range(1, ATTEMPTS):
            hit_BN = (item_BN[:, :, None] == mates_BM[:, None, :]).any(2)
            if not hit_BN.any():
                break
            again_BN = self._once(user_B, target_B, hashed(key, case_B[:, None], slot_N, slot_N * 0 + attempt))
            item_BN = torch.where(hit_BN, again_BN, item_BN)
        return item_BN
