"""Sampling without launching kernels one by one: the network's work is recorded once and replayed."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..components.predictor import Instants
from ..components.streams import Streams
from .model import JointModel
from .settings import FabricSettings

WARM_UPS = 3
"""Calls before recording, as torch's documentation asks for: libraries choose and allocate in the first ones."""


def graphs(settings: FabricSettings, device: torch.device) -> bool:
    """Return whether sampling replays CUDA graphs."""
    return settings.cuda_graphs and device.type == "cuda"


@dataclass(frozen=True)
class _Recording:
    graph: torch.cuda.CUDAGraph
    noisy: Streams
    times: Streams
    labels: Tensor
    predicted: Streams


class GraphedPredictor:
    """A model's predictions, with one recording for every batch size and set of streams that it is asked about.

    Weights may change in place between calls.
    """

    def __init__(self, model: JointModel) -> None:
        self.model = model
        self._recordings: dict[tuple[int, tuple[str, ...]], _Recording] = {}

    @torch.no_grad()
    def __call__(self, noisy: Streams, instants: Instants, labels: Tensor) -> Streams:
        """Return what `JointModel.predict` does."""
        kind = len(labels), tuple(noisy)
        if kind not in self._recordings:
            self._recordings[kind] = self._record(noisy, instants, labels)
        recording = self._recordings[kind]
        recording.labels.copy_(labels)
        for name, stream in noisy.items():
            recording.noisy[name].copy_(stream)
        for name, time in recording.times.items():
            time.fill_(instants[name])
        recording.graph.replay()
        return {name: predicted.clone() for name, predicted in recording.predicted.items()}

    def _record(self, noisy: Streams, instants: Instants, labels: Tensor) -> _Recording:
        noisy = {name: stream.clone() for name, stream in noisy.items()}
        times, labels = self.model.times(instants, labels), labels.clone()
        # Weights that autocast has rounded must be rounded again in every replay: its cache is gone by then.
        enabled, dtype = torch.is_autocast_enabled("cuda"), torch.get_autocast_dtype("cuda")
        with torch.autocast("cuda", dtype=dtype, enabled=enabled, cache_enabled=False):
            beside = torch.cuda.Stream()
            beside.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(beside):
                for _ in range(WARM_UPS):
                    self.model.predict_at(noisy, times, labels)
            torch.cuda.current_stream().wait_stream(beside)
            graph = torch.cuda.CUDAGraph()
            # Beside it a thread may be pinning batches of the training.
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                predicted = self.model.predict_at(noisy, times, labels)
        return _Recording(graph, noisy, times, labels, predicted)
