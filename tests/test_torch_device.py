import pytest
import torch

from tvm_rsq.errors import ConfigError
from tvm_rsq.torch_device import VARIABLE, device_generator, memory_format, torch_device


def test_the_processor_unless_the_environment_says_otherwise(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    assert torch_device() == torch.device("cpu")
    monkeypatch.setenv(VARIABLE, "")
    assert torch_device() == torch.device("cpu")
    assert memory_format(torch_device()) is torch.channels_last


@pytest.mark.parametrize(("named", "why"), [("abacus", "expected cpu, cuda"), ("meta", "expected cpu"), ("cuda:99", "unset it")])
def test_a_device_that_is_not_there_is_refused_in_a_line(monkeypatch, named, why):
    monkeypatch.setenv(VARIABLE, named)
    with pytest.raises(ConfigError, match=f"{VARIABLE} is '{named}', .*{why}") as raised:
        torch_device()
    assert "\n" not in str(raised.value)


def test_the_processor_draws_from_the_given_generator():
    generator = torch.Generator().manual_seed(0)
    assert device_generator(torch.device("cpu"), generator) is generator
