import pytest
import torch
from torch import nn

from graft_lightning.domains.base.transformer import Block
from graft_lightning.domains.digits.network import ReluBlock

WIDTH, HEADS = 12, 3
MASK = torch.tensor([[True] * 5, [True, True, False, True, False], [False] * 5])


def awake(kind=Block) -> Block:
    torch.manual_seed(0)
    block = kind(WIDTH, HEADS, 2 * WIDTH)
    for parameter in block.parameters():
        nn.init.normal_(parameter, std=0.4)
    return block.double()


def gates(block: Block, attention: float, mlp: float) -> None:
    """No scale and no shift, and these gates."""
    with torch.no_grad():
        block.table.copy_(torch.tensor([0, 0, attention, 0, 0, mlp]).repeat_interleave(WIDTH))


@pytest.fixture
def tokens():
    return torch.randn(3, 5, WIDTH, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


NONE = torch.zeros(3, 6 * WIDTH, dtype=torch.float64)


def test_attention_is_that_of_torch(tokens):
    block = awake()
    gates(block, attention=1, mlp=0)
    torchs = nn.MultiheadAttention(WIDTH, HEADS, bias=False, batch_first=True).double()
    torchs.load_state_dict({"in_proj_weight": block.qkv.weight, "out_proj.weight": block.out.weight})
    normed = nn.functional.layer_norm(tokens, [WIDTH])
    expected = tokens + torchs(normed, normed, normed, need_weights=False)[0]
    torch.testing.assert_close(block(tokens, NONE), expected)
    masked = torchs(normed[:2], normed[:2], normed[:2], key_padding_mask=~MASK[:2], need_weights=False)[0]
    torch.testing.assert_close(block(tokens, NONE, MASK)[:2], tokens[:2] + masked)


@pytest.mark.parametrize("kind", [Block, ReluBlock])
def test_mlp(kind, tokens):
    block = awake(kind)
    gates(block, attention=0, mlp=1)
    normed = nn.functional.layer_norm(tokens, [WIDTH])
    if kind is Block:
        first, _, second = block.mlp
        expected = second(nn.functional.gelu(first(normed), approximate="tanh"))
    else:
        expected = (normed @ block.mlp_in.weight.T).clamp(min=0) @ block.mlp_out.weight.T
    torch.testing.assert_close(block(tokens, NONE), tokens + expected)


def test_the_condition_scales_shifts_and_gates(tokens):
    """By the six parts of modulation and table together, in the order scale, shift, gate, of attention and of MLP."""
    block = awake()
    modulation = torch.randn(3, 6 * WIDTH, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    s1, b1, g1, s2, b2, g2 = (modulation + block.table).reshape(3, 6, 1, WIDTH).unbind(1)
    middle = tokens + g1 * block._attention(nn.functional.layer_norm(tokens, [WIDTH]) * (1 + s1) + b1, None)
    expected = middle + g2 * block.mlp(nn.functional.layer_norm(middle, [WIDTH]) * (1 + s2) + b2)
    torch.testing.assert_close(block(tokens, modulation), expected)
    gates(block, attention=0, mlp=0)
    assert torch.equal(block(tokens, NONE), tokens)


def test_padding_is_not_seen_and_a_row_of_padding_attends_everywhere(tokens):
    block = awake()
    out = block(tokens, NONE, MASK)
    torch.testing.assert_close(out[2:], block(tokens[2:], NONE[2:]))
    changed = torch.where(MASK[..., None], tokens, 100 * tokens)
    torch.testing.assert_close(block(changed, NONE, MASK)[MASK], out[MASK])
    alone = block(tokens[1:2, MASK[1]], NONE[:1])
    torch.testing.assert_close(out[1, MASK[1]], alone[0])


def test_permuted_tokens_give_permuted_results(tokens):
    block, order = awake(), torch.tensor([3, 0, 4, 2, 1])
    torch.testing.assert_close(block(tokens[:, order], NONE, MASK[:, order]), block(tokens, NONE, MASK)[:, order])


def test_files_of_weights_name_these():
    shared = ["table", "qkv.weight", "out.weight"]
    assert list(ReluBlock(8, 2, 16).state_dict()) == [*shared, "mlp_in.weight", "mlp_out.weight"]
    mlp = ["mlp.0.weight", "mlp.0.bias", "mlp.2.weight", "mlp.2.bias"]
    assert list(Block(8, 2, 16).state_dict()) == [*shared, *mlp]


def test_heads_must_divide_the_width():
    with pytest.raises(ValueError, match="heads=5 does not divide width=12"):
        Block(12, 5, 24)
