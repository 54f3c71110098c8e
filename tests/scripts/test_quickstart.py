"""The figures that quickstart prints."""

from __future__ import annotations

import numpy as np
import pytest

from scripts.quickstart_main import fidelity, interleaved_us


def test_fidelity_against_figures_by_hand() -> None:
    reference = np.log(np.array([[0.5, 0.25, 0.25], [0.1, 0.8, 0.1]]))
    quantized = np.log(np.array([[0.25, 0.5, 0.25], [0.1, 0.8, 0.1]]))
    found = fidelity(reference, quantized, np.array([0, 1]), "hand")
    assert found.kl == pytest.approx((0.5 * np.log(2) - 0.25 * np.log(2)) / 2)
    assert (found.agreement, found.top1_fp32, found.top1_quantized, found.samples) == (0.5, 1.0, 0.5, 2)
    assert fidelity(reference, 2 * reference, np.array([0, 1]), "hand").cosine == pytest.approx(1)


def test_calls_take_turns() -> None:
    order: list[str] = []
    times = interleaved_us([lambda: order.append("a"), lambda: order.append("b")], rounds=2)
    assert order == ["a", "b"] * 3  # one warm round
    assert [len(mine) for mine in times] == [2, 2]
    assert all(time >= 0 for mine in times for time in mine)
