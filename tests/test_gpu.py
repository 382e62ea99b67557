"""Dreams on a GPU: the graph of a step is the step, and the device changes nothing that matters."""

from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch

from dream_env.agents.studies.bench import gpu
from dream_env.agents.studies.bench.learn import fitting
from dream_env.cuda_graph import Recorded
from dream_env.tensors import TensorDreams

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU that torch finds")


@pytest.fixture
def fake_cuda(monkeypatch):
    """A CUDA graph as it behaves, on a CPU: replays read the recorded inputs and overwrite the recorded outputs."""
    recording = SimpleNamespace(function=None, places=[])

    class Graph:
        def replay(self):
            for old, new in zip(self.outputs, recording.function(), strict=True):
                for name, value in new.items():
                    old[name].copy_(value)

    @contextmanager
    def record(graph):
        yield
        graph.outputs = recording.outputs

    stream = SimpleNamespace(wait_stream=lambda other: None)
    for name, value in {"Stream": lambda: stream, "current_stream": lambda: stream, "CUDAGraph": Graph}.items():
        monkeypatch.setattr(torch.cuda, name, value)
    monkeypatch.setattr(torch.cuda, "stream", lambda _: record(SimpleNamespace()))
    monkeypatch.setattr(torch.cuda, "graph", record)

    @contextmanager
    def on(place):
        recording.places.append(place)
        yield

    monkeypatch.setattr(torch.cuda, "device", on)
    return recording


def test_recorded_calls_take_new_inputs_and_leave_old_results_alone(fake_cuda):
    def double(x, y):
        fake_cuda.function = lambda: calculate(x, y)
        fake_cuda.outputs = calculate(x, y)
        return fake_cuda.outputs

    def calculate(x, y):
        return {"sum": x + y}, {"double": 2 * x}

    recorded, one = Recorded(double), torch.ones(3)
    first, second = recorded(one, one), recorded(3 * one, one)
    assert [part["sum"].tolist() for part, _ in (first, second)] == [[2.0] * 3, [4.0] * 3]
    assert [part["double"].tolist() for _, part in (first, second)] == [[2.0] * 3, [6.0] * 3]
    assert torch.equal(one, torch.ones(3)), "the caller's tensors are not written to"
    assert fake_cuda.places == [one.device], "recorded once, where the tensors are"


def test_every_measurement_of_a_gpu_runs_and_is_shown():
    first, *_, result = gpu.measure("cpu", "state_grounded", quick=True, seconds=0.01, repeats=1, progress=False)
    assert gpu.page(first).count("##") == 1 and first["headline"], "what comes first is kept if the rest fails"
    names = {row["what"] for name in gpu.TITLES for row in result[name]}
    assert {
        "TensorDreams",
        "bare predictor",
        "agents.fit, predictor",
    } <= names
    assert all(row["steps_per_s"] > 0 for name in gpu.TITLES for row in result[name])
    own, *others = result["agreement"]
    assert own["what"] == "TensorDreams" and own["distance"] == own["reward"] == 0 and own["success"] == 1
    assert all(other["distance"] < 0.05 for other in others)
    page = gpu.page(result)
    assert all(name in page for name in names) and page.count("≥ 1,000,000") == 2
    assert {record["met"] for record in result["headline"]} == {"no"}, "a CPU is no GPU"


@needs_gpu
@pytest.mark.parametrize(
    "kwargs", [{}, {"temperature": 1.0, "max_disagreement": "calibrated"}, {"precision": "bfloat16"}, {"compile": True}]
)
def test_a_recorded_step_is_the_step(kwargs):
    plain, recorded = (
        TensorDreams(64, task="all", device="cuda", capture=capture, **kwargs) for capture in (False, True)
    )
    plain.reset(seed=5), recorded.reset(seed=5)
    action, seen = torch.rand(64, 4, device="cuda"), []
    for _ in range(30):  # beyond an episode's end
        one, other = plain.step(action), recorded.step(action)
        seen.append((other[0]["embedding"], other[0]["embedding"].clone()))
        for name in one[0]:
            assert torch.equal(one[0][name], other[0][name]), name
            assert torch.equal(one[4]["final_obs"][name], other[4]["final_obs"][name]), name
        assert torch.equal(one[1], other[1]) and torch.equal(one[3], other[3])
    assert all(torch.equal(now, then) for now, then in seen), "later steps leave the observations of earlier ones alone"


@needs_gpu
def test_dreams_on_a_gpu_are_those_of_the_cpu():
    for record in gpu.agreement("state_grounded", "cuda", 64):
        assert record["distance"] < 5e-3 and record["reward"] < 5e-3 and record["success"] > 0.99, record


@needs_gpu
def test_learning_on_a_gpu_runs(tmp_path):
    for stage in ("autoencoder", "predictor"):
        assert fitting(8, "state_grounded", stage, "cuda", updates=2)() == 16
