"""Recorded functions compute the same, for every shape, and only where nothing else can have changed."""

import copy
import pickle

import numpy as np
import pytest
import torch
from test_world_model import close, everything, inputs, randomized

from dream_env.initial_states import FILE, InitialStates
from dream_env.world_models import checkpoint, traced
from dream_env.world_models.traced import RECURRING, Traced


def scale(x):
    return 3 * x, x.sum(1)


def calls_of(function):
    """A traced function, and the shapes for which Python still ran."""
    seen = []

    def noted(*inputs):
        seen.append(inputs[0].shape)
        return function(*inputs)

    return Traced(noted), seen


@pytest.mark.parametrize("rows", [1, 3, 7, 33, 300])
@torch.inference_mode()
def test_every_method_of_a_world_model_is_the_same(rows, monkeypatch):
    monkeypatch.setenv("DREAM_ENV_THREADS", "2")
    model = randomized()
    fast = model.traced()
    assert "_mode_step" not in vars(model)
    for _ in range(RECURRING + 3):
        x = inputs(rows)
        x["action"] = 2 * torch.rand_like(x["action"]) - 1
        for (name, value), expected in zip(everything(fast, x).items(), everything(model, x).values(), strict=True):
            close(value, expected, name)
    assert vars(fast)["_mode_step"]._recorded, "nothing was recorded"


@torch.no_grad()
def test_python_runs_until_a_shape_has_recurred():
    fast, seen = calls_of(scale)
    x = torch.ones(2, 5)
    for _ in range(3 * RECURRING):
        assert [part.tolist() for part in fast(x)] == [[[3.0] * 5] * 2, [5.0, 5.0]]
    assert len(seen) == RECURRING + 1, "once more for the recording"
    fast(torch.ones(4, 5))
    assert seen[-1] == (4, 5), "another shape is another recording"


@torch.no_grad()
def test_a_recording_gives_the_same_bits():
    bias, x, weight = (
        torch.randn(*shape, generator=torch.Generator().manual_seed(0)) for shape in ((9,), (1, 99), (99, 9))
    )
    fast = Traced(lambda *given: torch.addmm(*given))  # TorchScript's optimizations split it into two
    values = [fast(bias, x, weight) for _ in range(RECURRING + 5)]
    assert fast._recorded and all(torch.equal(value, values[0]) for value in values)


@torch.no_grad()
def test_shapes_that_are_recorded_are_limited(monkeypatch):
    monkeypatch.setattr(traced, "SHAPES", 2)
    fast = Traced(scale)
    for rows in (1, 2, 3, 4):
        for _ in range(RECURRING + 1):
            assert len(fast(torch.ones(rows, 5))[0]) == rows
    assert len(fast._recorded) == 2


@torch.no_grad()
def test_a_torch_without_torchscript_calls_the_function(monkeypatch):
    monkeypatch.delattr(torch.jit, "trace")
    fast, seen = calls_of(scale)
    for _ in range(2 * RECURRING):
        assert fast(torch.ones(2, 5))[1].tolist() == [5.0, 5.0]
    assert len(seen) == 2 * RECURRING


def test_gradients_and_lower_precision_take_the_function_itself():
    fast, seen = calls_of(lambda x, weight: x @ weight)
    x, weight = torch.ones(2, 5), torch.ones(5, 3)
    with torch.no_grad():
        for _ in range(RECURRING):
            fast(x, weight)
    known = len(seen)
    fast(x.requires_grad_(), weight).sum().backward()
    assert x.grad is not None and len(seen) == known + 1
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert fast(x, weight).dtype == torch.bfloat16 and len(seen) == known + 2


@torch.inference_mode()
def test_a_copy_goes_its_own_way():
    model, x = randomized().traced(), inputs(2)
    for _ in range(RECURRING):
        before = everything(model, x)
    other = copy.deepcopy(model)
    for parameter in other.predictor.parameters():
        parameter.mul_(0.5)
    for _ in range(RECURRING + 1):
        assert not torch.equal(everything(other, x)["stepped tokens"], before["stepped tokens"])
    close(everything(model, x)["stepped tokens"], before["stepped tokens"])
    assert pickle.loads(pickle.dumps(Traced(scale)))(torch.ones(1, 2))[1].tolist() == [2.0]


def test_trainable_weights_are_never_traced():
    model = copy.deepcopy(checkpoint.load("unlabelled")).requires_grad_(True)
    states = InitialStates.load(checkpoint.resolve("unlabelled") / FILE).states(model, np.arange(2))
    still = torch.zeros(2, 4)
    with torch.no_grad():
        before = [model.step(states, still)[0]["slots"] for _ in range(RECURRING + 2)]
        model.dynamics.net.biases[-1].add_(1.0)
        after = model.step(states, still)[0]["slots"]
    assert all(torch.equal(one, before[0]) for one in before)
    assert not torch.equal(after, before[0])
