"""Batches shared among threads: the same rows, in any company, with any number of threads."""

from __future__ import annotations

import multiprocessing

import pytest
import torch

from dream_env.world_models import rows
from dream_env.world_models.latent import LatentConfig, LatentWorldModel
from dream_env.world_models.protocol import LatentState


@pytest.fixture(scope="module")
def model() -> LatentWorldModel:
    """A world model whose every weight is random, those that begin at zero too."""
    torch.manual_seed(0)
    model = LatentWorldModel(LatentConfig()).eval()
    for weight in model.parameters():
        weight.data += 0.05 * torch.randn_like(weight)
    return model


@torch.inference_mode()
def results(model: LatentWorldModel, count: int) -> dict[str, torch.Tensor]:
    """Everything that a world model tells of the first of 300 random states."""
    draw = torch.Generator().manual_seed(1)
    tokens, proprio = torch.randn(300, 64, 16, generator=draw), torch.rand(300, 4, generator=draw)
    action, words = torch.rand(300, 4, generator=draw), torch.randn(300, 64, generator=draw)
    pictures = torch.randint(0, 256, (300, 64, 64, 3), generator=draw, dtype=torch.uint8)
    state = LatentState(tokens[:count], proprio[:count])
    ahead = model.step(state, action[:count])
    return {
        "step": ahead.tokens,
        "set-point": ahead.proprio,
        "luck": model.step(state, action[:count], torch.linspace(0, 0.99, 300)[:count]).tokens,
        "disagreement": model.disagreement(state, action[:count]),
        "success": model.success(state, model.embedding(state), words[:count]),
        "metric": model.metric(model.embedding(state)),
        "encode": model.encode(pictures[:count], proprio[:count]).tokens,
    }


@pytest.mark.parametrize("threads", ["1", "2", "3"])
def test_rows_are_the_same_in_any_company(
    model: LatentWorldModel, threads: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DREAM_ENV_THREADS", "1")
    everyone = results(model, 300)
    monkeypatch.setenv("DREAM_ENV_THREADS", threads)
    for count in (1, 2, 3, 5, 33, 66, 257, 300):
        for name, part in results(model, count).items():
            assert torch.equal(part, everyone[name][:count]), f"{name} of {count} rows"


def test_threads_share_a_batch_and_their_modes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DREAM_ENV_THREADS", "2")
    seen = []

    def double(x: torch.Tensor) -> torch.Tensor:
        seen.append((len(x), torch.is_grad_enabled(), torch.is_autocast_enabled("cpu")))
        return 2 * x

    ones = torch.ones(100, 3)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(rows.by_rows(double, ones), 2 * ones)
    assert seen == [(50, False, True), (50, False, True)]
    seen.clear()
    rows.by_rows(double, ones)
    assert seen == [(100, True, False)]  # gradients are one thread's work


def test_threads_by_variable_or_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DREAM_ENV_THREADS", raising=False)
    assert rows.threads() >= 1
    for wrong in ("0", "-1", "two"):
        monkeypatch.setenv("DREAM_ENV_THREADS", wrong)
        with pytest.raises(ValueError, match=f"DREAM_ENV_THREADS={wrong}; accepted"):
            rows.threads()


def _shared() -> float:
    with torch.inference_mode():
        return float(rows.by_rows(lambda x: x + 1, torch.ones(100, 1)).sum())


def test_a_fork_gets_threads_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gymnasium's AsyncVectorEnv forks."""
    monkeypatch.setenv("DREAM_ENV_THREADS", "2")
    assert _shared() == 200
    child = multiprocessing.get_context("fork").Process(target=_shared)
    child.start()
    child.join(20)
    alive = child.is_alive()
    child.kill()
    assert not alive and child.exitcode == 0
