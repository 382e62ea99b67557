"""How much memory a fit held."""

import time

import numpy as np

from dream_env.agents.fit import peak


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
