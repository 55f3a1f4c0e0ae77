"""What the tokenizer does not know is counted, and too much of it refused."""

from __future__ import annotations

import numpy as np
import pytest

from distilkit.data.packing import pack
from distilkit.data.text_check import TokenCounts, check_tokens, count_tokens


def test_tokens_are_counted_without_frame_and_padding(tokenizer):
    blocks = pack(["w1 w2 what", "w3 [MASK] what w4", "w5"], tokenizer, 8)
    counts = count_tokens(blocks, tokenizer)
    assert counts == TokenCounts(tokens=8, unknown=2, maskable=5)
    assert counts.unknown_share == 0.25
    assert count_tokens(np.tile(blocks, (9000, 1)), tokenizer).unknown == 2 * 9000


def test_more_than_a_fifth_unknown_is_refused(tokenizer):
    check_tokens(TokenCounts(10, 2, 8), "text", "teacher")
    with pytest.raises(ValueError, match="30% of 10 tokens"):
        check_tokens(TokenCounts(10, 3, 7), "text", "teacher")
    with pytest.raises(ValueError, match="none of 10 tokens can be masked"):
        check_tokens(TokenCounts(10, 0, 0), "text", "teacher")
