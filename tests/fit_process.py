"""What each process of `torchrun` does in test_distributed: fits of test_fit's toy, each into a folder of its own."""

import sys
from contextlib import suppress
from functools import partial
from pathlib import Path
from unittest.mock import patch

import test_fit

from dream_env.agents.fit import distributed
from dream_env.agents.fit.state_grounded import losses
from dream_env.agents.fit.state_grounded.command import fit, train
from dream_env.agents.nicol import model_metrics

STAGES = ("autoencoder", "state_estimator", "arm_renderer", "object_dynamics", "predictor", "success", "metric")
UPDATES = {f"{stage}_updates": 40 for stage in STAGES}
FIRST = UPDATES | {f"{stage}_updates": 0 for stage in ("state_estimator", "success", "metric")}


def fits(out: Path) -> None:
    """Fits through all stages, with the joint one, through a kill, and by the clock."""
    assert distributed.total(1 + distributed.rank()) == {1: 1, 2: 3}[distributed.world()]
    data, arguments = test_fit.toy(20), partial(test_fit.arguments, data=(Path("toy"),))
    with patch.object(model_metrics, "steps_per_second", lambda model, batch: 1000.0):
        # At its own rate this stage makes more of a rounding error than the bound of the test allows.
        fit(arguments(out / "stages", success_rate=1e-3, **UPDATES), data)
    train(arguments(out / "joint", objective="both", **FIRST), data)
    whole, calls = losses.rollout_loss, 0

    def dying(*given):
        nonlocal calls
        calls += 1
        if calls == 30:
            raise InterruptedError
        return whole(*given)

    with patch.object(losses, "rollout_loss", dying), suppress(InterruptedError):
        train(arguments(out / "killed", **FIRST), data, save_seconds=0.2)
    train(arguments(out / "killed", **FIRST), data)
    train(arguments(out / "minutes", minutes=0.03, **FIRST), data)


if __name__ == "__main__":
    with distributed.processes():
        fits(Path(sys.argv[1]) / f"rank{distributed.rank()}")
