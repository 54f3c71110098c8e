"""The small network as the command line takes it."""

from __future__ import annotations

from tests.tiny_networks import classifier


def network() -> tuple[object, None]:
    return classifier(softmax=True), None
