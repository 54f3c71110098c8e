"""A network that is left in float altogether, on the command line: it compiles, and what is printed divides by no time of zero."""

from __future__ import annotations

from typer.testing import CliRunner

from tvm_rsq.cli.app import app


def test_it_compiles(tmp_path):
    options = ["--override", "*=float,grid=codebook,weight_bits=4", "--source", "gaussian", "-o", str(tmp_path / "x.rsq")]
    done = CliRunner().invoke(app, ["compile", "tests.test_cli_float_network:network", *options])
    assert done.exit_code == 0, done.output
    assert "2 layers: 2 float" in done.output


def network():
    import torch

    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU(), torch.nn.Conv2d(8, 4, 1)).eval(), (torch.zeros(1, 3, 8, 8),)
