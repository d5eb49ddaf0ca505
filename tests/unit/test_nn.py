"""Each layer against a slow definition, forward and gradient."""

import pytest
import torch
from torch import Tensor, nn

from corsar.nn.attention import MultiHeadAttention, TargetAttention
from corsar.nn.contrastive import Bilinear, bounded_logsumexp, pair_loss, view_loss
from corsar.nn.dropout import Dropout
from corsar.nn.embeddings import WordsEncoder, distinct
from corsar.nn.experts import TaskExperts
from corsar.nn.layers import DecoderLayer, EncoderLayer
from corsar.nn.packing import Packing, chunks_of

LENGTHS = [1, 2, 24, 25]
DIM, HEADS = 8, 2


def rows(lengths: list[int], width: int) -> Tensor:
    return torch.arange(width) < torch.tensor(lengths)[:, None]


def seeded(module: nn.Module) -> nn.Module:
    g = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=g) * 0.4)
    return module


def copy_attention(ours: MultiHeadAttention, theirs: nn.MultiheadAttention) -> None:
    theirs.in_proj_weight.data, theirs.in_proj_bias.data = ours.in_proj.weight.data, ours.in_proj.bias.data
    theirs.out_proj.load_state_dict(ours.out_proj.state_dict())


def copy_rest(ours: nn.Module, theirs: nn.Module) -> None:
    for name, value in ours.state_dict().items():
        inner = name.removeprefix("feed_forward.")
        if inner in theirs.state_dict():
            theirs.state_dict()[inner].copy_(value)


def same(ours: Tensor, theirs: Tensor, *inputs: Tensor) -> None:
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    weight = torch.linspace(-1, 1, ours.numel()).view_as(ours)
    for x in inputs:
        a = torch.autograd.grad((ours * weight).sum(), x, retain_graph=True)[0]
        b = torch.autograd.grad((theirs * weight).sum(), x, retain_graph=True)[0]
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("width", LENGTHS)
def test_encoder_layer_equals_torch_at_real_positions(width: int) -> None:
    real = rows([width, max(1, width // 2), 1], width)
    at = Packing(real)
    ours = seeded(EncoderLayer(MultiHeadAttention(DIM, HEADS, 0.0), DIM, 2 * DIM, 0.0))
    theirs = nn.TransformerEncoderLayer(DIM, HEADS, 2 * DIM, 0.0, batch_first=True)
    copy_attention(ours.attention, theirs.self_attn)
    copy_rest(ours, theirs)
    x = torch.randn(3, width, DIM, requires_grad=True)
    same(ours(at.pack(x), at), theirs(x, src_key_padding_mask=~real)[real], x)


@pytest.mark.parametrize("width", LENGTHS)
def test_decoder_layer_equals_torch_at_real_positions(width: int) -> None:
    real = rows([width, max(1, width // 2), 1], width)
    at = Packing(real)
    ours = seeded(DecoderLayer(*(MultiHeadAttention(DIM, HEADS, 0.0) for _ in range(2)), DIM, 2 * DIM, 0.0))
    theirs = nn.TransformerDecoderLayer(DIM, HEADS, 2 * DIM, 0.0, batch_first=True)
    copy_attention(ours.self_attention, theirs.self_attn)
    copy_attention(ours.cross_attention, theirs.multihead_attn)
    copy_rest(ours, theirs)
    x, memory = torch.randn(3, width, DIM, requires_grad=True), torch.randn(3, width, DIM, requires_grad=True)
    expected = theirs(x, memory, tgt_key_padding_mask=~real, memory_key_padding_mask=~real)[real]
    same(ours(at.pack(x), at.pack(memory), at, at), expected, x, memory)


def test_between_equals_a_merged_encoder_that_masks_own_kind() -> None:
    feed, search = Packing(rows([4, 2], 5)), Packing(rows([1, 3], 3))
    ours = seeded(EncoderLayer(MultiHeadAttention(DIM, HEADS, 0.0), DIM, DIM, 0.0))
    theirs = nn.TransformerEncoderLayer(DIM, HEADS, DIM, 0.0, batch_first=True)
    copy_attention(ours.attention, theirs.self_attn)
    copy_rest(ours, theirs)
    x, y = torch.randn(2, 5, DIM, requires_grad=True), torch.randn(2, 3, DIM, requires_grad=True)
    merged = torch.cat([x, y], 1)
    kind = torch.tensor([0] * 5 + [1] * 3)
    pads = ~torch.cat([feed.is_real_BL, search.is_real_BL], 1)
    out = theirs(merged, src_mask=kind[:, None] == kind, src_key_padding_mask=pads)
    got = ours.between(feed.pack(x), search.pack(y), feed, search)
    same(got[0], out[:, :5][feed.is_real_BL], x, y)
    same(got[1], out[:, 5:][search.is_real_BL], x, y)


def test_rows_without_keys_read_zero_or_nan_by_option() -> None:
    x = torch.randn(2, 3, DIM, requires_grad=True)
    at, nothing = Packing(rows([3, 2], 3)), Packing(rows([0, 1], 3))
    for empty, finite in (("zero", True), ("nan", False)):
        layer = seeded(MultiHeadAttention(DIM, HEADS, 0.0, empty))  # type: ignore[arg-type]
        read = layer.attend(layer.queries(at.pack(x)), layer.memory(nothing.pack(x)), at, nothing)
        assert torch.isfinite(read).all() == finite
        if finite:
            assert read[:3].abs().max() == 0
            read.sum().backward()
            assert torch.isfinite(x.grad).all()


def test_target_attention_equals_its_definition() -> None:
    at = Packing(rows([3, 0, 1], 3))
    layer = seeded(TargetAttention(DIM))
    history, target = torch.randn(3, 3, DIM), torch.randn(3, 2, DIM)
    got = layer(at.pack(history), at, target)
    for b, n in enumerate([3, 0, 1]):
        for c in range(2):
            h = history[b, :n]
            expected = (h @ layer.weight @ target[b, c]).softmax(0) @ h if n else torch.zeros(DIM)
            torch.testing.assert_close(got[b, c], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("lengths", [[2, 3, 0], [3, 3, 3], [0, 0, 0]])
def test_packing_equals_boolean_indexing(lengths: list[int]) -> None:
    at = Packing(rows(lengths, 3))
    x = torch.randn(3, 3, 4, requires_grad=True)
    same(at.pack(x), x[at.is_real_BL], x)
    packed = torch.randn(sum(lengths), 4, requires_grad=True)
    plain = torch.zeros(3, 3, 4).masked_scatter(at.is_real_BL[..., None].expand(-1, -1, 4), packed)
    same(at.unpack(packed), plain, packed)
    same(at.mean(packed), torch.stack([p[:n].sum(0) / max(n, 1) for p, n in zip(plain, lengths, strict=True)]), packed)


@pytest.mark.parametrize(("sharp", "dtype"), [(10.0, torch.float32), (90.0, torch.float64)])
@pytest.mark.parametrize("skip", [False, True])
def test_fast_logsumexp_equals_its_plain_twin(skip: bool, sharp: float, dtype: torch.dtype) -> None:
    left, right = (torch.randn(300, DIM, dtype=dtype, requires_grad=True) for _ in range(2))  # two blocks
    sharpness = torch.tensor(sharp, dtype=dtype, requires_grad=True)
    plain = torch.tanh(left @ right.T) * sharpness
    if skip:
        plain = plain.masked_fill(torch.eye(300, dtype=torch.bool), float("-inf"))
    fast = bounded_logsumexp(left, right, sharpness, skip_diagonal=skip)
    same(fast, torch.logsumexp(plain, 1), left, right, sharpness)
    single = bounded_logsumexp(left.float(), right.float(), sharpness.float(), skip_diagonal=skip)  # it has no room for exp(90)
    torch.testing.assert_close(single, fast.float(), rtol=1e-5, atol=1e-5)


def test_pair_loss_equals_cross_entropy_over_each_pair() -> None:
    scorer = seeded(Bilinear(DIM, 0.5))
    q, i = torch.randn(4, DIM, requires_grad=True), torch.randn(5, DIM, requires_grad=True)
    nq, ni = torch.randn(7, DIM), torch.randn(6, DIM)
    left, right = torch.tensor([1, 1, 3, 0]), torch.tensor([2, 2, 4, 2])
    terms = []
    for a, b, m, x, y in ((left, right, ni, q, i), (right, left, nq, i, q)):
        mapped = x[a] @ scorer.weight
        logits = torch.cat([(mapped * y[b]).sum(1, keepdim=True), mapped @ m.T], 1)
        terms.append(nn.functional.cross_entropy(torch.tanh(logits) * scorer.sharpness, torch.zeros(4, dtype=torch.int64)))
    same(pair_loss(scorer, q, i, left, right, nq, ni).mean(), sum(terms) / 2, q, i, scorer.weight)
    assert pair_loss(scorer, q, i, left[:0], right[:0], nq, ni).shape == (0,)


def test_view_loss_leaves_the_row_itself_out() -> None:
    scorer = seeded(Bilinear(DIM, 0.1))
    a, b = torch.randn(3, DIM, requires_grad=True), torch.randn(3, DIM, requires_grad=True)
    z = torch.cat([a, b])
    logits = scorer.bounded(z @ scorer.weight @ z.T)
    expected = []
    for row in range(6):
        others = [c for c in range(6) if c != row]
        expected.append(torch.logsumexp(logits[row, others], 0) - logits[row, (row + 3) % 6])
    same(view_loss(scorer, a, b), torch.stack(expected).mean(), a, b)
    assert view_loss(scorer, a[:0], b[:0]) == 0


def test_experts_equal_one_expert_at_a_time() -> None:
    layer = seeded(TaskExperts(("recommend", "search"), 5, own=2, shared=3, expert_dim=4, dropout=0.0))
    candidate, case = torch.randn(2, 3, 3), torch.randn(2, 2)
    x = torch.cat([candidate, case[:, None].expand(-1, 3, -1)], -1)
    experts = torch.cat([layer.own["search"](x), layer.shared(x)], -1).relu().unflatten(-1, (5, 4))
    expected = (layer.gates["search"](x).softmax(-1)[..., None] * experts).sum(-2)
    torch.testing.assert_close(layer("search", candidate, case), expected)


def test_words_are_the_mean_of_known_words() -> None:
    encoder = seeded(WordsEncoder(5, 3, 4))
    out = encoder(torch.tensor([1, 2, 0, 3]), torch.tensor([0, 2, 2, 4]))
    table = encoder.embedding.weight
    means = torch.stack([(table[1] + table[2]) / 2, torch.zeros(3), table[3]])
    torch.testing.assert_close(out, encoder.linear(means).tanh())


def test_distinct_lists_each_row_once_behind_row_0() -> None:
    found, place = distinct([torch.tensor([[5, 2], [2, 7]]), torch.tensor([7])], 9)
    assert found.tolist() == [0, 2, 5, 7]
    assert place[found].tolist() == [0, 1, 2, 3]


def test_dropout_keeps_the_mean_and_follows_the_seed() -> None:
    layer, x = Dropout(0.1), torch.ones(1001, 301, requires_grad=True)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        first = layer(x)
        torch.manual_seed(3)
        assert torch.equal(layer(x), first)
    assert abs(float((first == 0).float().mean()) - 0.1) < 3e-3
    assert abs(float(first.detach().mean()) - 1) < 3e-3
    first.sum().backward()
    assert torch.equal(x.grad, first.detach())
    assert layer.eval()(x) is x


def test_chunks_hold_many_short_rows_or_few_long_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("corsar.nn.packing.SLOTS", 12)
    assert chunks_of(torch.tensor([0, 0, 1, 1, 2, 3, 4, 4, 4, 30, 30])) == [5, 3, 1, 1, 1]
    assert chunks_of(torch.tensor([], dtype=torch.int64)) == [0]
    real = rows([1, 1, 2, 5, 9, 12], 12)
    x = torch.randn(6, 12, DIM)
    layer = seeded(EncoderLayer(MultiHeadAttention(DIM, HEADS, 0.0), DIM, DIM, 0.0))
    many, one = Packing(real), Packing(real, [6])
    assert len(many.chunks) > 1
    torch.testing.assert_close(layer(many.pack(x), many), layer(one.pack(x), one), rtol=1e-5, atol=1e-6)
