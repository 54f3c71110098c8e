"""What every source of synthesised images optimises, and by which loss: the parts of one `synthesis_run.Run`.

retro-synthesis  pixels from smooth noise; relative statistics of the batch, random classes, swing
zeroq            pixels from white noise; statistics of each image by itself
generator        a generator and its latents; statistics of the batch, swing
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from tvm_rsq.config import SynthesisConfig
from tvm_rsq.distance_loss import DistanceLoss
from tvm_rsq.executor import Executor
from tvm_rsq.image_generator import GeneratedImages, generator_cost
from tvm_rsq.model import InputSpec
from tvm_rsq.optimised_pixels import CosinePixels, PlateauPixels
from tvm_rsq.swing import swing
from tvm_rsq.synthesis_budget import NetworkCost
from tvm_rsq.synthesis_input import InputScale, starting_images
from tvm_rsq.synthesis_loss import StatisticsLoss
from tvm_rsq.synthesis_run import Images, Loss
from tvm_rsq.torch_device import memory_format

_OPTIMIZERS = {"adam": torch.optim.Adam, "nadam": torch.optim.NAdam, "radam": torch.optim.RAdam}
_ZEROQ_RATE = 0.5
_RETRO_ONLY = ("learning_rate", "optimizer", "class_weight", "input_weight", "low_pass")


@dataclass(frozen=True, kw_only=True, eq=False)
class Setting:
    """What a method is given.   loss  of retro-synthesis, scale  of the inputs, steps  of each batch, generator  of all that is random"""

    executor: Executor
    config: SynthesisConfig
    loss: StatisticsLoss
    scale: InputScale
    steps: int
    generator: torch.Generator

    @property
    def specs(self) -> tuple[InputSpec, ...]:
        return self.executor.model.inputs

    def placed(self, images: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """`images` where and how the executor takes them."""
        device = self.executor.device
        found = [value.to(device) for value in images]
        return [value.contiguous(memory_format=memory_format(device)) if value.ndim == 4 else value for value in found]


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """One source.

    begin          setting -> (count -> the next batch of so many images, and its loss)
    own_cost       of one image besides the network; CalibrationError: the source cannot make such inputs
    unused         fields of SynthesisConfig that it does not look at
    no_batch_norm  what a network without batch norms leaves of it, and what to do
    remedy         of a loss that is not finite
    half_drawn     whether half of the images are drawn where there are no batch norms. Class scores alone make images whose values are
                   up to twice those of photos; with drawn ones among them KL was 0.010 to 0.011, not 0.014 to 0.016, on SqueezeNet at 8
                   bits, and 0.030 to 0.033, not 0.046 to 0.048, on a VGG at 4
    """

    begin: Callable[[Setting], Callable[[int], tuple[Images, Loss]]]
    own_cost: Callable[[Sequence[InputSpec]], NetworkCost]
    unused: tuple[str, ...]
    no_batch_norm: str
    remedy: str = "check its weights"
    half_drawn: bool = False

    def notes(self, config: SynthesisConfig, has_batch_norm: bool) -> list[str]:
        """Remarks for the report."""
        plain = SynthesisConfig()
        changed = [name for name in self.unused if getattr(config, name) != getattr(plain, name)]
        found = [f"{', '.join(changed)}: not used, source {config.source} has its own"] if changed else []
        return found if has_batch_norm else [*found, self.no_batch_norm]


def _retro_synthesis(setting: Setting) -> Callable[[int], tuple[Images, Loss]]:
    config, generator = setting.config, setting.generator

    def begin(count: int) -> tuple[Images, Loss]:
        normalised = setting.placed(starting_images(setting.specs, count, generator))
        classes = setting.loss.classes(setting.scale.apply([value[:1] for value in normalised]))
        targets = torch.randint(0, classes, (count,), generator=generator) if classes else None
        before = swing(generator) if config.swing else None
        images = CosinePixels(
            normalised, _OPTIMIZERS[config.optimizer], learning_rate=config.learning_rate, steps=setting.steps, low_pass=config.low_pass
        )
        return images, lambda inputs, normalised: setting.loss(inputs, normalised, targets, before)

    return begin


def _zeroq(setting: Setting) -> Callable[[int], tuple[Images, Loss]]:
    loss = DistanceLoss(setting.executor, per_image=True)

    def begin(count: int) -> tuple[Images, Loss]:
        white = [torch.randn((count, *spec.shape[1:]), generator=setting.generator) for spec in setting.specs]
        return PlateauPixels(setting.placed(white), learning_rate=_ZEROQ_RATE), loss

    return begin


def _generator(setting: Setting) -> Callable[[int], tuple[Images, Loss]]:
    loss = DistanceLoss(setting.executor, per_image=False)
    before = swing(setting.generator) if setting.config.swing else None

    def begin(count: int) -> tuple[Images, Loss]:
        images = GeneratedImages(setting.specs, count, setting.generator, setting.executor.device)
        return images, lambda inputs, normalised: loss(inputs, normalised, before)

    return begin


def _nothing(_specs: Sequence[InputSpec]) -> NetworkCost:
    return NetworkCost(macs=0, value_bytes=0)


_KEEP = "keep batch norms when exporting, or calibrate on real inputs"
METHODS = {
    "retro-synthesis": Method(
        begin=_retro_synthesis, own_cost=_nothing, unused=(), half_drawn=True, remedy="check its weights, or lower learning_rate",
        no_batch_norm=f"no batch norm: only the class and input terms shape the images; {_KEEP}",
    ),
    "zeroq": Method(
        begin=_zeroq, own_cost=_nothing, unused=(*_RETRO_ONLY, "swing"),
        no_batch_norm=f"no batch norm: only the input term is left, so the images stay white noise; {_KEEP}",
    ),
    "generator": Method(
        begin=_generator, own_cost=generator_cost, unused=_RETRO_ONLY,
        no_batch_norm=f"no batch norm: only the input term is left, so the images stay those of an untrained generator; {_KEEP}",
    ),
}  # fmt: skip
