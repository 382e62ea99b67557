"""What is asked of the C library, and how much memory a fit held."""

import ctypes
import os
import platform
import resource
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from dream_env.agents.fit import peak
from dream_env.world_models import memory

OWN = ("MALLOC_", "GLIBC_TUNABLES", "LD_PRELOAD")


@pytest.fixture(autouse=True)
def clean(monkeypatch):
    """Forgets that it was asked, and what the environment says."""
    for name in [name for name in os.environ if name.startswith(OWN)]:
        monkeypatch.delenv(name)
    memory.keep_freed_memory.cache_clear()
    yield
    memory.keep_freed_memory.cache_clear()


def faults() -> int:
    """Counts the pages that the kernel hands out while large tensors come and go."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        [torch.ones(2_000_000) for _ in range(4)]
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def test_pages_are_kept():
    assert memory.keep_freed_memory()
    faults()
    assert faults() < 4 * 2_000_000 * 4 // 4096  # one round's pages; anew each time they would be twenty times as many


def test_settings_of_the_environment_stand(monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda _: SimpleNamespace(mallopt=lambda *_: pytest.fail("told all the same")))
    for name in ("MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES", "LD_PRELOAD"):
        memory.keep_freed_memory.cache_clear()
        with monkeypatch.context() as context:
            context.setenv(name, "1")
            assert not memory.keep_freed_memory()


def test_other_libraries_are_left_alone(monkeypatch):
    monkeypatch.setattr(platform, "libc_ver", lambda: ("musl", "1"))
    monkeypatch.setattr(ctypes, "CDLL", lambda _: pytest.fail("told all the same"))
    assert not memory.keep_freed_memory()


def test_the_peak_of_memory_outlives_what_was_held(monkeypatch):
    monkeypatch.setattr(peak, "_SECONDS", 0.01)
    with peak.peak_memory() as most:
        before, large = most(), np.ones(2**26)  # half a GiB
        for _ in range(200):
            time.sleep(0.01)
            if most() > before + 0.45:
                break
        del large
        assert before + 0.45 < most() < before + 0.6
