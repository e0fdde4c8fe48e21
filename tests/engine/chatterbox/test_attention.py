"""Attention in the type at hand against attention in double precision."""

from __future__ import annotations

import pytest
import torch

from wyoming_chatterbox.engine.chatterbox.compute.attention import attend


@pytest.mark.parametrize(("dtype", "most"), [(torch.float32, 1e-6), (torch.float16, 1e-3), (torch.bfloat16, 0.01)])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(("queries", "keys"), [(1, 1), (1, 70), (98, 330)])
def test_it_is_scaled_dot_product_attention(
    dtype: torch.dtype, most: float, masked: bool, queries: int, keys: int
) -> None:
    random = torch.Generator().manual_seed(0)
    query = torch.randn(2, 8, queries, 64, generator=random)
    key, value = torch.randn(2, 2, 8, keys, 64, generator=random)
    mask = torch.zeros(queries, keys).index_fill_(1, torch.tensor([0]), -1.0) if masked else None
    expected = torch.nn.functional.scaled_dot_product_attention(
        query.double(), key.double(), value.double(), None if mask is None else mask.double()
    )
    got = attend(query.to(dtype), key.to(dtype), value.to(dtype), None if mask is None else mask.to(dtype))
    assert got.dtype == dtype
    assert (got.double() - expected).norm() / expected.norm() < most


def test_equal_scores_weigh_the_same_however_large_they_are() -> None:
    query = torch.full((1, 1, 1, 64), 100.0, dtype=torch.bfloat16)
    value = torch.arange(4.0, dtype=torch.bfloat16)[:, None].expand(1, 1, 4, 64)
    assert torch.equal(attend(query, query.expand(1, 1, 4, 64), value), torch.full_like(query, 1.5))
