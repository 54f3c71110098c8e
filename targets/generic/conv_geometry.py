"""What a convolution kernel needs to know of a workload besides its numbers: how it is cut into rows, runs and pixels of memory."""

from __future__ import annotations

from dataclasses import dataclass, replace

from tvm import tirx
from tvm.ir import Expr

from tvm_rsq.targets.generic.steps import ConvStep
from tvm_rsq.targets.workload import Conv2DWorkload


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvGeometry:
    """A convolution as `images` x `out_rows` rows of `out_cols` pixels, each a sum over `taps_h` x `taps_w` runs of `run` adjacent values.

    A run is all columns and channels of one kernel row where these lie next to each other in memory (no groups, no dilation along W),
    and the channels of one tap otherwise. 1x1 convolutions without padding, whose pixels lie next to each other, are one long row.
    Offsets and steps count values of the staged input, which has `rows` x `cols` pixels an image; `data_rows` and `data_cols` are that
    before padding, and `sample` is how many pixels of the input there are to one of them, along H and W.
    flat says that all pixels of all images are one long row, each of them the whole input of one output.
    gathered  the geometry before the taps of each output pixel were copied next to each other, see `gathered_geometry`; None: they are not
    """

    images: int
    out_rows: int
    out_cols: int
    taps_h: int
    taps_w: int
    run: int
    rows: int
    cols: int
    data_rows: int
    data_cols: int
    row_step: int
    col_step: int
    tap_h_step: int
    tap_w_step: int
    image_step: int
    pad: tuple[int, int]
    sample: tuple[int, int]
    flat: bool
    gathered: ConvGeometry | None = None

    @property
    def pixels(self) -> int:
        """Output pixels of all images."""
        return self.images * self.out_rows * self.out_cols

    def steps(self, step: ConvStep) -> int:
        """Steps of one run."""
        return -(-self.run // (step.depth * step.parts))

    def offset(self, line: Expr | int, col: Expr | int) -> Expr:
        """Where the first tap of output pixel `col` of row `line` (through all images) is; both may run past their end."""
        line, col = line + tirx.floordiv(col, self.out_cols), tirx.floormod(col, self.out_cols)
        return self.row_offset(line) + col * self.col_step

    def row_offset(self, line: Expr | int) -> Expr:
        """The same for the first pixel of an output row."""
        return tirx.floordiv(line, self.out_rows) * self.image_step + tirx.floormod(line, self.out_rows) * self.row_step


def conv_geometry(w: Conv2DWorkload, *, copied: bool = False) -> ConvGeometry:
    """The geometry of `w`; `copied` says that its input will be copied in any case: then only the pixels that are read need be."""
    top, left, bottom, right = w.padding
    channels = w.in_channels
    joined = w.groups == 1 and (w.dilation[1] == 1 or w.kernel[1] == 1)
    pointwise = w.kernel == (1, 1) and not any(w.padding)
    sample = w.stride if pointwise and copied else (1, 1)
    flat = pointwise and sample == w.stride
    stride = (1, 1) if flat else w.stride
    rows, cols = (1, w.batch * w.out_height * w.out_width) if flat else (w.height + top + bottom, w.width + left + right)
    return ConvGeometry(
        images=1 if flat else w.batch,
        out_rows=1 if flat else w.out_height,
        out_cols=cols if flat else w.out_width,
        taps_h=w.kernel[0],
        taps_w=1 if joined else w.kernel[1],
        run=w.kernel[1] * channels if joined else channels // w.groups,
        rows=rows,
        cols=cols,
        data_rows=1 if flat else w.height,
        data_cols=cols if flat else w.width,
        row_step=stride[0] * cols * channels,
        col_step=stride[1] * channels,
        tap_h_step=w.dilation[0] * cols * channels,
        tap_w_step=w.dilation[1] * channels,
        image_step=rows * cols * channels,
        pad=(top, left),
        sample=sample,
        flat=flat,
    )


def gathered_geometry(w: Conv2DWorkload, depth: int) -> ConvGeometry:
    """The geometry of `w` where the taps of every output pixel are copied next to each other, and filled up to whole steps of `depth`
    values: one long row, and one run of all taps in place of one for each row of the kernel.
    """
    before = conv_geometry(w)
    run, cols = before.taps_h * before.taps_w * before.run, before.pixels
    pitch = -(-run // depth) * depth
    return replace(
        before, images=1, out_rows=1, out_cols=cols, taps_h=1, taps_w=1, run=run, rows=1, cols=cols, data_rows=1, data_cols=cols,
        row_step=cols * pitch, col_step=pitch, tap_h_step=0, tap_w_step=0, image_step=cols * pitch, pad=(0, 0), flat=False,
        gathered=before,
    )  # fmt: skip
