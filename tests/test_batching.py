"""Batches shared among threads; that elements stay what they are, test_world_model tests."""

from __future__ import annotations

import multiprocessing

import pytest
import torch

from dream_env.world_models import batching


def test_threads_share_a_batch_and_their_modes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DREAM_ENV_THREADS", "2")
    seen = []

    def double(x: torch.Tensor) -> torch.Tensor:
        seen.append((len(x), torch.is_grad_enabled(), torch.is_autocast_enabled("cpu")))
        return 2 * x

    ones = torch.ones(100, 3)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(batching.chunked(double, ones), 2 * ones)
    assert seen == [(50, False, True), (50, False, True)]
    seen.clear()
    batching.chunked(double, ones)
    assert seen == [(100, True, False)]  # gradients are one thread's work


def test_threads_by_variable_or_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DREAM_ENV_THREADS", raising=False)
    assert batching.threads() >= 1
    for wrong in ("0", "-1", "two"):
        monkeypatch.setenv("DREAM_ENV_THREADS", wrong)
        with pytest.raises(ValueError, match=f"DREAM_ENV_THREADS={wrong}; accepted"):
            batching.threads()


def _shared() -> float:
    with torch.inference_mode():
        return float(batching.chunked(lambda x: x + 1, torch.ones(100, 1)).sum())


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
