"""Builds of a network on one device: checked first, then timed in turns, or counted where the board is emulated."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from tvm_rsq.errors import DeviceError, TargetError
from tvm_rsq.progress import Progress, ProgressCallback
from tvm_rsq.remote.board_session import BoardSession, SessionLost, last_line, open_session
from tvm_rsq.remote.check_answer import check_answer
from tvm_rsq.remote.device import RemoteDevice
from tvm_rsq.remote.device_builds import DeviceBuild
from tvm_rsq.remote.measures import Measuring, measuring
from tvm_rsq.remote.remote_network import RemoteNetwork
from tvm_rsq.report.data import DeviceRow
from tvm_rsq.tuning.task import TIME

Inputs = tuple[np.ndarray, ...]


@dataclass(frozen=True, kw_only=True)
class DeviceBench:
    """How a device is benchmarked.

    samples  inputs that every build has to answer right, one or more; the first is timed
    known    a row of an earlier run that can stand for this one, or None
    keep     is given every row as soon as it is measured
    """

    device: RemoteDevice
    samples: Sequence[Inputs]
    repeat: int
    warmup: int
    known: Callable[[DeviceRow], DeviceRow | None]
    keep: Callable[[DeviceRow], None]
    progress: ProgressCallback

    def run(self, builds: Sequence[DeviceBuild]) -> list[DeviceRow]:
        """A row for each build; one that fails says why.

        DeviceError: the device is gone, and what was measured is kept; or, as TargetError, what is to be measured cannot be.
        """
        with self._session() as session:
            how = measuring(self.device, self.device.spec(), session.emulated)
        empty = {build.name: self._row(build, how) for build in builds}
        found = {name: row for name, empty_row in empty.items() if (row := self.known(empty_row))}
        todo = [build for build in builds if build.name not in found]
        found |= self._timed(todo, empty) if how.measure == TIME else self._counted(todo, empty, how)
        return [found[build.name] for build in builds]

    def _row(self, build: DeviceBuild, how: Measuring) -> DeviceRow:
        held = build.contents
        return DeviceRow(
            network=held.name, device=self.device.key, target=held.target_name, build=build.name,
            artifact=held.digest, artifact_bytes=len(held.library), measure=how.measure,
            divergence=build.divergence, threads=self.device.threads if how.measure == TIME else 1,
        )  # fmt: skip

    def _counted(self, builds: Sequence[DeviceBuild], rows: Mapping[str, DeviceRow], how: Measuring) -> dict[str, DeviceRow]:
        def count(session: BoardSession, build: DeviceBuild) -> DeviceRow:
            row, network = self._checked(session, build, rows[build.name])
            if row.error is not None:
                return row
            self._say("measure", build)
            counts = network.counts()
            return replace(row, instructions=counts.total, modelled_cycles=None if how.cycles is None else how.cycles(counts))

        return {build.name: self._kept(self._attempted(count, build, rows[build.name])) for build in builds}

    def _timed(self, builds: Sequence[DeviceBuild], rows: Mapping[str, DeviceRow]) -> dict[str, DeviceRow]:
        found = {}
        for build in builds:  # each alone: one that takes its session down takes no other with it
            found[build.name] = self._attempted(lambda session, b: self._checked(session, b, rows[b.name])[0], build, rows[build.name])
        right = [build for build in builds if found[build.name].error is None]
        for build in builds:
            if build not in right:
                self._kept(found[build.name])
        return found | (self._in_turns(right, found) if right else {})

    def _in_turns(self, builds: Sequence[DeviceBuild], rows: Mapping[str, DeviceRow]) -> dict[str, DeviceRow]:
        """Rows with latencies, in whose rounds the builds take turns."""
        times: dict[str, list[float]] = {build.name: [] for build in builds}
        lost: SessionLost | RuntimeError | None = None
        with self._session() as session:
            try:
                networks = {build.name: RemoteNetwork(session, build.contents) for build in builds}
                for network in networks.values():
                    network.run(*self.samples[0])
                for i in range(self.warmup + self.repeat):
                    for name in [*networks][i % len(networks) :] + [*networks][: i % len(networks)]:
                        spent = networks[name].time_us()
                        if i >= self.warmup:
                            times[name].append(spent)
                    self.progress(Progress(stage="measure", done=i + 1, total=self.warmup + self.repeat, detail=self.device.key))
            except (SessionLost, RuntimeError) as error:  # RuntimeError: TVM's own, such as no memory for all builds together
                lost = error
        found = {
            name: self._kept(replace(rows[name], latency_us=tuple(each) or None, error=None if lost is None else last_line(lost)))
            for name, each in times.items()
        }
        if lost is not None:
            raise lost if isinstance(lost, SessionLost) else DeviceError(f"device {self.device.key}: {last_line(lost)}") from lost
        return found

    def _checked(self, session: BoardSession, build: DeviceBuild, row: DeviceRow) -> tuple[DeviceRow, RemoteNetwork]:
        self._say("check", build)
        network = RemoteNetwork(session, build.contents)
        answers = [
            check_answer(network.run(*sample), build.reference(*sample), exact=build.exact) for sample in reversed(self.samples)
        ]  # the first last: it is what stays there
        wrong = next((answer.wrong for answer in answers if answer.wrong), None)
        return replace(row, bit_exact=all(answer.bit_exact for answer in answers), error=wrong), network

    def _attempted(self, work: Callable[[BoardSession, DeviceBuild], DeviceRow], build: DeviceBuild, row: DeviceRow) -> DeviceRow:
        """What `work` makes of a session; a row that says why not, where the build fails there twice.   DeviceError: there is no session"""
        why = ""
        for _ in range(2):
            with self._session() as session:
                try:
                    return work(session, build)
                except (SessionLost, RuntimeError, TargetError) as error:
                    why = last_line(error)
        return replace(row, error=why)

    def _session(self) -> BoardSession:
        session = open_session(self.device, lambda why: self.progress(Progress(stage="waiting", done=0, total=1, detail=why)))
        if self.device.threads is not None:
            session.use_threads(self.device.threads)
        return session

    def _kept(self, row: DeviceRow) -> DeviceRow:
        self.keep(row)
        return row

    def _say(self, stage: str, build: DeviceBuild) -> None:
        self.progress(Progress(stage=stage, done=0, total=1, detail=f"{self.device.key} {build.name}"))
