"""A training run in stages that can be resumed after a kill: updates, schedule, averaged weights, checkpoints."""

from __future__ import annotations

import itertools
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.tensorboard import SummaryWriter

from dream_env.agents.fit import distributed
from dream_env.agents.fit.muon import optimizers
from dream_env.agents.run.config import check_settings
from dream_env.agents.run.interrupts import delayed_interrupt
from dream_env.files import replacing
from dream_env.progress import progress_bar
from dream_env.world_models import checkpoint
from dream_env.world_models.weights import with_current_names

Loss = Callable[[torch.Generator, float], Tensor]
"""Loss of one fresh batch, given the generator for all random numbers and the stage's progress in [0, 1)."""

CHECKSUM = "data_checksum"
"""Name of the checksum of the data among the settings of a run; runs of older versions have none."""


def _nothing() -> None:
    pass


def _write_world_model(model: Any, folder: Path) -> None:
    checkpoint.save(model, folder, "# World model in training\n\nThe latest state of an unfinished `agents.fit`.\n")


@dataclass
class Stage:
    """One stage of a run: trains one module with one loss.

    Attributes:
        name: Name of the stage, in the progress bar and the curves.
        module: Module to train.
        loss: See `Loss`; computed on this process's `distributed.share` of a batch.
        updates: Number of updates; 0 skips the stage, including `begin` and `finish`.
        learning_rate: Peak of a cosine schedule with a warm-up over the first 2 %.
        minutes: Length of the stage as time instead of updates; None counts updates, which makes runs reproducible.
        average: Decay of the moving average of the weights, which replaces the weights at the end; 0 for none.
        begin: Called before the first update, to prepare the module.
        finish: Called after the last update, to complete the module.
        report: Called at every checkpoint; returns named numbers and pictures `(H, W, 3)` uint8 for TensorBoard.
    """

    name: str
    module: nn.Module
    loss: Loss
    updates: int
    learning_rate: float
    minutes: float | None = None
    average: float = 0.0
    begin: Callable[[], None] = _nothing
    finish: Callable[[], None] = _nothing
    report: Callable[[], dict[str, Any]] = dict


class Run:
    """Trains a model stage by stage, and saves everything needed to resume to the folder `out`/last.

    Several processes can train together, see `dream_env.agents.fit.distributed`. Only the first process reads the
    checkpoint, keeps the time, runs reports and writes files.

    Args:
        model: The whole model; every checkpoint contains all of it.
        out: Folder of the run, with last/ and tensorboard/.
        settings: Settings that determine the result of the run, as JSON types. A run is resumed only with the same
            settings.
        seed: Seed of every stage's generator.
        bfloat16: Whether to compute in mixed precision; None does so if it is faster, see `has_bfloat16`.
        save_seconds: Seconds between two checkpoints.
        cpu_time: Whether to measure the time of stages as CPU time of this process.
        device: Device of the updates. Between updates, for reports and checkpoints, the model is on the CPU.
        muon: Whether to train matrices with Muon, see `dream_env.agents.fit.muon`, instead of AdamW.
        write: Saves the current model to a folder, where it can be loaded during the run.

    Attributes:
        seconds: Duration of each finished stage in seconds.

    Raises:
        ValueError: If `out` holds a run with other settings.
    """

    def __init__(
        self,
        model: nn.Module,
        out: Path,
        settings: dict[str, Any],
        *,
        seed: int = 0,
        bfloat16: bool | None = False,
        save_seconds: float = 60.0,
        cpu_time: bool = False,
        device: str = "cpu",
        muon: bool = True,
        write: Callable[[Any, Path], None] = _write_world_model,
    ) -> None:
        self.model, self.seed, self.device, self.write = model, seed, device, write
        self.muon = muon
        self.bfloat16 = has_bfloat16(device) if bfloat16 is None else bfloat16
        self.clock = time.process_time if cpu_time else time.monotonic
        self.seconds: dict[str, float] = {}
        self.save_seconds = save_seconds
        self.folder = out / "last"
        self.settings = json.dumps(settings, sort_keys=True)
        self.writer = SummaryWriter(str(out / "tensorboard")) if distributed.rank() == 0 else None
        self._done: list[str] = []
        self._open: dict[str, Any] = {}
        file = self.folder / "training.pt"
        found = self.writer and file.exists()
        if state := distributed.agree(torch.load(file, map_location="cpu", weights_only=True) if found else None):
            before = json.loads(state["settings"])
            # A run of an older version may have settings that do not exist any more, and has no checksum.
            before = {name: value for name, value in before.items() if name in settings}
            before |= {CHECKSUM: settings[CHECKSUM]} if CHECKSUM in {*settings} - {*before} else {}
            check_settings(out, before, json.loads(self.settings))
            renamed = getattr(model, "RENAMED_WEIGHTS", {})  # the run may have begun with an older version
            model.load_state_dict(with_current_names(state["model"], renamed))
            self._done, self._open, self.seconds = state["done"], state["open"], state["seconds"]

    def train(self, stage: Stage) -> None:
        """Trains a stage to its end, from the last checkpoint if there is one.

        Raises:
            KeyboardInterrupt: After Ctrl-C, when the running update is done and saved.
            ValueError: If the loss becomes NaN or infinite; such weights are not saved.
        """
        if stage.updates <= 0 or stage.name in self._done:
            return
        if not self._open:
            stage.begin()
        self.model.to(self.device)
        module = stage.module
        distributed.join(module)
        parameters = list(module.parameters())
        trained_by = optimizers(module, stage.learning_rate, self.muon)
        average = AveragedModel(module, multi_avg_fn=get_ema_multi_avg_fn(stage.average))
        generator = torch.Generator().manual_seed(self.seed)
        update, elapsed, loss = 0, 0.0, torch.zeros(())
        if self._open:
            update, elapsed = self._open["update"], self._open["elapsed"]
            for optimizer, saved_state in zip(trained_by, self._open["optimizers"], strict=True):
                optimizer.load_state_dict(saved_state)
            average.load_state_dict(self._open["average"])
            generator.set_state(self._open["generator"])
        resumed, saved = self.clock(), time.monotonic()
        before = elapsed

        def state() -> dict[str, Any]:
            return {
                "update": update,
                "elapsed": elapsed,
                "optimizers": [optimizer.state_dict() for optimizer in trained_by],
                "average": average.state_dict(),
                "generator": generator.get_state(),
            }

        with (
            delayed_interrupt() as interrupted,
            progress_bar(
                desc=stage.name, total=stage.updates, initial=update, unit="update", disable=not self.writer
            ) as bar,
        ):
            while (progress := _progress(stage, update, elapsed)) < 1:
                module.train()
                for group in itertools.chain(*(optimizer.param_groups for optimizer in trained_by)):
                    group["lr"] = stage.learning_rate * _schedule(progress)
                with torch.autocast(self.device, torch.bfloat16, enabled=self.bfloat16):
                    loss = stage.loss(generator, progress)
                module.zero_grad()
                loss.backward()
                distributed.average_gradients(parameters)
                nn.utils.clip_grad_norm_(parameters, 1.0)
                for optimizer in trained_by:
                    optimizer.step()
                if stage.average:
                    average.update_parameters(module)
                update += 1
                elapsed, stop = distributed.agree((before + self.clock() - resumed, interrupted()))
                bar.update()
                saves = stop or time.monotonic() - saved >= self.save_seconds
                if update % 20 == 0 or saves:
                    check_finite(stage, update, loss)
                if update % 20 == 0:
                    shown = distributed.average(loss.detach()).item()
                    bar.set_postfix(loss=f"{shown:.4f}", refresh=False)
                    self._write(stage, update, {"loss": shown})
                if saves:
                    self._open = state()
                    self.model.to("cpu")
                    if not stop:
                        self._report(stage, update)
                    self.save()
                    self.model.to(self.device)
                    saved = time.monotonic()
                if stop:
                    raise KeyboardInterrupt
            check_finite(stage, update, loss)
        if stage.average:
            module.load_state_dict(average.module.state_dict())
        self.model.to("cpu")
        stage.finish()
        self._report(stage, update)
        self._done, self._open = [*self._done, stage.name], {}
        self.seconds[stage.name] = elapsed
        self.save()

    def save(self) -> None:
        """Writes the current model, readable by its loader, and the state to resume from."""
        if self.writer is None:
            return
        self.write(self.model, self.folder)
        state = {
            "settings": self.settings,
            "done": self._done,
            "open": self._open,
            "seconds": self.seconds,
            "model": self.model.state_dict(),
        }
        with replacing(self.folder / "training.pt") as part:
            torch.save(state, part)

    def _report(self, stage: Stage, update: int) -> None:
        if self.writer is not None:
            self.model.eval()
            self._write(stage, update, stage.report())
            self.writer.flush()

    def _write(self, stage: Stage, update: int, values: dict[str, Any]) -> None:
        if self.writer is None:
            return
        for name, value in values.items():
            if isinstance(value, float):
                self.writer.add_scalar(f"{stage.name}/{name}", value, update)
            else:
                self.writer.add_image(f"{stage.name}/{name}", value, update, dataformats="HWC")


def check_finite(stage: Stage, update: int, loss: Tensor) -> None:
    """Raises ValueError if the loss of a stage is NaN or infinite after an update."""
    if not loss.isfinite():
        raise ValueError(
            f"learning_rate={stage.learning_rate:g}: the loss of {stage.name!r} is {loss.item()} after {update} "
            "updates; accepted: a smaller rate (--help-all lists the options), with another --out"
        )


def has_bfloat16(device: str) -> bool:
    """Returns whether bfloat16 is faster than float32: on GPUs, and on CPUs with bfloat16 instructions."""
    if torch.device(device).type != "cpu":
        return True
    able: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(able.get("avx512_bf16") or able.get("amx_bf16"))


def ema_decay(updates: int) -> float:
    """Returns the decay of the averaged weights for a stage of that many updates, at most 0.995.

    It is smaller for short stages, whose average has to forget the initial weights, too.
    """
    return max(0.0, min(0.995, 1 - 20 / max(1, updates)))


def _progress(stage: Stage, update: int, elapsed: float) -> float:
    return update / stage.updates if stage.minutes is None else elapsed / (60 * stage.minutes)


def _schedule(progress: float) -> float:
    """Returns the learning rate relative to its peak: a linear warm-up, times a cosine to 0."""
    warmup = min(1.0, (progress + 1e-3) / 0.02)
    return warmup * 0.5 * (1 + math.cos(math.pi * progress))
