"""What a convolution kernel needs to know of a workload besides its numbers: how it is cut into rows, runs and pixels of memory."""

from __future__ import annotations

from dataclasses import dataclass

from tvm_rsq.targets.workload import Conv2DWorkload


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvGeometry:
    """A convolution as `images` x `out_rows` rows of `out_cols` pixels, each a sum over `taps_h` x `taps_w` runs of `run` adjacent values.

    A run is all columns and channels of one kernel row where these lie next to each other in memory (no groups, no dilation along W),
    and the channels of one tap otherwise. 1x1 convolutions without stride and padding are one long row.
    Offsets and steps count values of the staged input, which has `rows` x `cols` pixels an image; `data_rows` and `data_cols` are that
    before padding.
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

    @property
    def staged_size(self) -> int:
        return self.images * self.image_step


def conv_geometry(w: Conv2DWorkload) -> ConvGeometry:
    """The geometry of `w`."""
    top, left, bottom, right = w.padding
    channels = w.in_channels
    joined = w.groups == 1 and (w.dilation[1] == 1 or w.kernel[1] == 1)
    flat = w.kernel == (1, 1) and w.stride == (1, 1) and not any(w.padding)
    rows, cols = (1, w.batch * w.height * w.width) if flat else (w.height + top + bottom, w.width + left + right)
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
        row_step=w.stride[0] * cols * channels,
        col_step=w.stride[1] * channels,
        tap_h_step=w.dilation[0] * cols * channels,
        tap_w_step=w.dilation[1] * channels,
        image_step=rows * cols * channels,
        pad=(top, left),
    )
