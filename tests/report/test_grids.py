"""The table of grids: what was tried, what was chosen, sums over layers; and where it is on the page."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from report_sample import plan, report_data

from tvm_rsq.layer_record import GridTrial
from tvm_rsq.report import formats, histogram, page
from tvm_rsq.report.grids import grid_table


def tried(bits: int, codebook: bool, kl: float) -> GridTrial:
    return GridTrial(bits=bits, codebook=codebook, weight_nmse=0.01, weight_bytes=100 * bits, kl=kl)


BOTH = (tried(4, False, 0.25), tried(4, True, 0.125))


def layers(count: int = 3):
    made = [replace(layer, weight_bits=4, grids=BOTH) for layer in plan(count + 1, hostile=False).layers[:count]]
    made[0] = replace(made[0], codebook=((*range(-8, 8),),))
    return made


def test_what_was_tried_and_what_was_chosen():
    found = grid_table(layers())
    assert found.columns == ("4 bits", "4 bits, codebook") and len(found.rows) == 3
    assert [[cell.chosen for cell in row.cells] for row in found.rows] == [[False, True], [True, False], [True, False]]
    assert [(t.kl, t.weight_bytes, t.layers) for t in found.totals] == [(0.75, 1200, 2), (0.375, 1200, 1)]
    assert (found.chosen_kl, found.chosen_bytes) == (0.625, 1200)


def test_a_grid_that_was_not_tried_everywhere_has_no_sum():
    some = layers()
    some[1] = replace(some[1], grids=(tried(8, False, 0.5),), weight_bits=8)
    found = grid_table(some)
    assert found.columns == ("4 bits", "4 bits, codebook", "8 bits")
    assert [total.kl for total in found.totals] == [None] * 3 and found.rows[0].cells[2].trial is None
    assert found.chosen_kl == pytest.approx(0.125 + 0.5 + 0.25)


def test_nothing_tried_no_table():
    assert grid_table(plan(4).layers) is None
    assert "Weights on each grid" not in page.render(report_data(4))


def test_the_page_has_the_table():
    data = report_data(4)
    text = page.render(replace(data, plan=replace(data.plan, layers=(*layers(3), data.plan.layers[3]))))
    assert "Weights on each grid" in text and text.count('<td class="n nowrap chosen">') == 3 and "4 bits, codebook" in text
    assert f"As chosen: 0.62 nats summed over layers, {formats.size(1200)}." in text


def test_a_histogram_shows_the_entries_of_a_codebook():
    found = histogram.build(np.array([0.5, -0.25]), (0.1, 0.2), 3, book=(-7, -2, 0, 1, 3, 5, 7, 7))
    np.testing.assert_allclose(found.levels, np.array([-7, -2, 0, 1, 3, 5, 7]) * 0.1)
