"""The exceptions of tvm_rsq. Every one is a `tvm_rsq.Error` and says, in one line, what was got, what was expected and what to do.

    Error
    ├── ModelError          the network cannot be read or is not one that can be quantized
    │   └── UnsupportedError    an operator, attribute or shape outside what tvm_rsq supports, named with its node
    ├── ConfigError         a configuration or override that cannot be honoured
    ├── CalibrationError    calibration data that does not fit the network
    ├── TargetError         an unknown target or CPU, or a toolchain that is missing
    ├── DeviceError         a board, its server or its tracker that cannot be reached, or has gone
    ├── ArtifactError       a compiled artifact that is corrupt, foreign, or cannot run here
    └── InputError          a wrong number, shape or dtype of arrays at run time
"""


_LONGEST = 4000  # characters


class Error(Exception):
    """Base of all errors that tvm_rsq raises on purpose. Its message is one line, whatever the names that it tells."""

    def __init__(self, message: object = "") -> None:
        text = "".join(each if each.isprintable() else ascii(each)[1:-1] for each in str(message))
        super().__init__(text if len(text) <= _LONGEST else f"{text[: _LONGEST // 2]} ... {text[-_LONGEST // 2 :]}")


class ModelError(Error):
    """The network cannot be read, or cannot be quantized."""


class UnsupportedError(ModelError):
    """An operator, attribute or shape outside what tvm_rsq supports; the message names the node."""


class ConfigError(Error):
    """A configuration value or an override that cannot be honoured."""


class CalibrationError(Error):
    """Calibration data that does not fit the network."""


class TargetError(Error):
    """An unknown target or CPU, or a missing cross toolchain."""


class DeviceError(Error):
    """A board, its server or its tracker that cannot be reached, or has gone."""


class ArtifactError(Error):
    """A compiled artifact that is corrupt, foreign, or cannot run on this machine."""


class InputError(Error):
    """A wrong number, shape or dtype of arrays handed to a compiled or simulated network."""
