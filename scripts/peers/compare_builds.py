"""One network at one batch and number of threads: make the builds, check their answers, time them in turns."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from scripts.models.fetch import FetchError
from scripts.models.network import Network
from scripts.models.photos import load_photos
from scripts.peers.build import Build, PeerError
from scripts.peers.ours import Ours
from scripts.peers.peer_builds import peer_builds
from scripts.peers.rows import Measured, Row
from scripts.peers.work_folder import WorkFolder
from scripts.turns import bound_in_turns, in_turns, wait_until_idle
from tvm_rsq.fidelity import compare, in_batches
from tvm_rsq.progress import ProgressCallback, silent
from tvm_rsq.report.data import Fidelity
from tvm_rsq.targets.spec import TargetSpec
from tvm_rsq.threads import VARIABLE

_SAMPLES = 20
_FP32_COSINE = 0.9999


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What is the same for all rows.

    peers         of PEERS; none for a target that is another CPU level than this machine's own
    calibration   of work_folder.SOURCES, of our builds; the peers take the photos where there are any
    tuning_dir    see Ours
    bound_repeat  times without copies, 0 leaves them out
    """

    spec: TargetSpec
    peak_gmacs: float
    peers: tuple[str, ...]
    calibration: str
    folder: WorkFolder
    tuning_dir: object = None
    repeat: int = 50
    bound_repeat: int = 10
    progress: ProgressCallback = silent


def measure_row(model: str, network: Network, batch: int, threads: int, settings: Settings) -> Row:
    """The row of one network.   PeerError, FetchError, tvm_rsq.Error as its parts raise them."""
    photos = photos_for(network)
    os.environ[VARIABLE] = str(threads)  # TVM reads it at every launch
    calibration = settings.folder.calibration(model, network, settings.calibration, photos, settings.progress)
    ours = Ours(
        model=model, network=network, batch=batch, threads=threads, spec=settings.spec, calibration=calibration,
        folder=settings.folder, tuning_dir=settings.tuning_dir, progress=settings.progress,
    )  # fmt: skip
    samples, source = (calibration.inputs[0], settings.calibration) if photos is None else (photos, "photos")
    theirs = {}
    if settings.peers:
        theirs = peer_builds(
            model, network, batch=batch, threads=threads, samples=samples, source=source, peers=settings.peers, folder=settings.folder
        )
    builds = ours.builds() | theirs
    check_fp32(builds, network, samples[:_SAMPLES], batch)
    answers = check_answers(builds, samples[:_SAMPLES], source, batch)
    x = np.ascontiguousarray(samples[np.arange(batch) % len(samples)])
    # With one thread the caller computes by itself, and nobody spins.
    quiet = wait_until_idle if threads > 1 else None
    times = in_turns({name: partial(build.run, x) for name, build in builds.items()}, settings.repeat, quiet=quiet)
    bound = bound_in_turns({name: partial(build.bound_us, x) for name, build in builds.items()}, settings.bound_repeat, quiet=quiet)
    measured = {name: Measured(times_us=times[name], bound_us=bound[name], answer=answers.get(name)) for name in builds}
    return Row(
        model=model, batch=batch, threads=threads, target=settings.spec.name, macs=ours.macs,
        peak_gmacs=settings.peak_gmacs, builds=measured,
    )  # fmt: skip


def check_answers(builds: Mapping[str, Build], samples: np.ndarray, source: str, batch: int) -> dict[str, Fidelity]:
    """Build -> how close it is to its own maker's FP32 on `samples`; FP32 builds are left out."""
    outputs = {name: in_batches(build.run, (samples,), batch) for name, build in builds.items()}
    maker = {name: f"{name.split()[0]} fp32" if " fp32" in name or " int8" in name else "fp32" for name in builds}
    return {name: compare(outputs[maker[name]], outputs[name], source=source) for name in builds if maker[name] != name}


def check_fp32(builds: Mapping[str, Build], network: Network, samples: np.ndarray, batch: int) -> None:
    """PeerError: an FP32 build that answers otherwise than the torch module. A network that is a file has none to compare with."""
    if not isinstance(network.model, torch.nn.Module):
        return
    with torch.inference_mode():
        expected = in_batches(lambda x: network.model(torch.from_numpy(x)).numpy(), (np.ascontiguousarray(samples),), batch)
    for name, build in builds.items():
        if name.endswith("fp32"):
            cosine = compare(expected, in_batches(build.run, (samples,), batch), source="torch").cosine
            if not cosine > _FP32_COSINE:
                raise PeerError(f"{name} has a cosine of {cosine:.6f} to the torch module, expected over {_FP32_COSINE}; it is no baseline")


def photos_for(network: Network) -> np.ndarray | None:
    """The fetched photos as this network's inputs; None where they are not in the cache."""
    try:
        return network.preprocessing(load_photos()[0])
    except FetchError:
        return None
