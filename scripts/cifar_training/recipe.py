"""What a training run depends on, and the recipes of the two networks."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """SGD with Nesterov momentum; the learning rate rises and falls once, both linearly.

    epochs           passes over the training images
    small_epochs     how many of them, the first, see small windows: those cost half as much
    small_side       side of these windows in pixels; later ones have the images' own side and may jut out by `jut`
    batch            images a step; what is left over at the end of an epoch is not seen in it
    peak_rate        the learning rate after `warm_up` (0..1) of all steps
    weight_decay     of kernels; biases and batch norms have none
    label_smoothing  0..1, the probability that is spread over all classes
    clip_norm        the largest norm of a step's gradient; None: any
    """

    seed: int = 0
    epochs: int
    small_epochs: int
    small_side: int = 24
    jut: int = 2
    batch: int
    peak_rate: float
    warm_up: float = 0.2
    momentum: float = 0.9
    weight_decay: float = 5e-4
    label_smoothing: float = 0.1
    clip_norm: float | None = None

    def rate(self, done: float) -> float:
        """The learning rate after `done` (0..1) of all steps."""
        return self.peak_rate * min(done / self.warm_up, (1 - done) / (1 - self.warm_up))

    def window(self, epoch: int, side: int) -> tuple[int, int]:
        """(side, jut) of the windows in `epoch` (from 0), for images of `side` pixels."""
        return (self.small_side, 0) if epoch < self.small_epochs else (side, self.jut)


RECIPES = {
    "resnet20-cifar": Recipe(epochs=16, small_epochs=11, batch=128, peak_rate=0.2),
    # without BN the steps must be smaller, and an early one that is far too large is cut
    "vgg-cifar": Recipe(epochs=14, small_epochs=9, batch=64, peak_rate=0.04, clip_norm=2.0),
}
