"""What `agents.fit` can be told: its command line, with a default for everything but the data."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from dream_env.checks import check_choice, check_number
from dream_env.nicol.language import COLORS
from dream_env.nicol.world_model.config import StateGroundedConfig

SHARES = {
    "autoencoder": 0.2,
    "state_estimator": 0.07,
    "arm_renderer": 0.05,
    "object_dynamics": 0.16,
    "predictor": 0.3,
    "painter": 0.06,
    "success": 0.1,
    "metric": 0.06,
}
"""Parts of `--minutes` that the stages get; those of stages without updates go to the others."""
LEAST = {"updates": 0, "batch": 2, "rate": 0, "weight": 0, "noise": 0, "seed": 0, "states": 0, "processes": 1}
"""Least numbers that are accepted, by the last word of their name."""
SHARE = ("moving", "average", "held_out", "false_positives")
"""Numbers from 0 to 1."""
LATER = ("test", "false_positives", "probe_updates", "initial_states")
"""What counts only once a model is trained, so that the same run may be told otherwise."""
RARE = (
    "cpu_time",
    *(f"{part}_{what}" for what in ("batch", "rate") for part in SHARES),
    "object_dynamics_horizons",
    "horizons",
    "moving",
    "object_state_weight",
    "pixel_weight",
    "placing_weight",
    "token_noise",
    "rollout_noise",
    "average",
    "false_positives",
    "probe_updates",
    "split_seed",
    "bfloat16",
    "muon",
    "model",
)
"""Options that only `--help-all` shows."""
Objective = Literal["pixels", "latent", "both"]
Device = Literal["cpu", "cuda"]


@dataclass(frozen=True)
class Arguments:
    """Fits a world model to recorded episodes, in stages.

    Auto-encoder (picture to tokens and back), state estimator (tokens to where hand and cubes are), arm renderer,
    object dynamics (moves hand and cubes in numbers), predictor (next tokens), painter (pictures of states), success
    head, metric (steps to go).
    """

    data: tuple[Path, ...]
    """Folders of the episodes, written by `python -m agents.collect`."""
    out: Path
    """Folder of the checkpoint, of metrics.json, the curves (tensorboard/) and the run's state (last/)."""
    init: str | None = None
    """Checkpoint to start from, with its architecture; None starts from random weights. With
    --autoencoder-updates 0 the embedding stays what it was, so policies see as before."""
    new_predictor: bool = False
    """With --init: makes predictor and object dynamics anew, by --model; all else stays what it was, as do policies
    that see by it."""
    autoencoder: str | None = None
    """Checkpoint whose auto-encoder is kept as it is, while the rest is made anew with --model. Here and in --init,
    "default" is the one that comes with the package."""
    kinds: str | None = None
    """Kinds of episodes to train on, separated by commas; None takes all. Those held out are of all kinds."""
    episodes: int | None = None
    """Number of episodes to draw --kinds from; None takes all but those held out."""
    objective: Objective = "pixels"
    """What the encoder learns from: drawing its pictures; predicting its own tokens, some steps ahead, together with
    the predictor, while the decoder only looks on; or both."""
    minutes: float | None = None
    """Length of the fit in minutes instead of updates; such a run cannot be repeated exactly."""
    cpu_time: bool = False
    """Counts --minutes in CPU time of this process, whatever else the machine is doing."""
    autoencoder_updates: int = 1200
    """Updates of the auto-encoder; 0 keeps that of --init."""
    state_estimator_updates: int = 3000
    """Updates of the state estimator on encoded frames; 0 keeps that of --init."""
    arm_renderer_updates: int = 800
    """Updates of a new predictor's arm renderer, before the rest of it."""
    object_dynamics_updates: int = 1500
    """Updates of the object dynamics, before the predictor; with --predictor-updates 0 none."""
    predictor_updates: int = 2000
    """Updates of the predictor; 0 keeps that of --init."""
    painter_updates: int = 1500
    """Updates of the decoder that draws what states say; 0 keeps that of --init, or draws of the tokens alone."""
    success_updates: int = 6000
    """Updates of the success head; 0 keeps that of --init."""
    metric_updates: int = 2500
    """Updates of the metric; 0 keeps that of --init."""
    autoencoder_batch: int = 64
    """Pictures per update."""
    state_estimator_batch: int = 512
    """Frames per update."""
    arm_renderer_batch: int = 512
    """Pairs of frames per update."""
    object_dynamics_batch: int = 2048
    """Steps of the cubes per update: windows times their length."""
    predictor_batch: int = 512
    """Predicted steps per update: windows times their length."""
    painter_batch: int = 32
    """Pictures per update, half of them of dreamt states."""
    success_batch: int = 256
    """States per update, half encoded and half dreamt."""
    metric_batch: int = 512
    """Pairs of a state and a goal per update, half of the states dreamt; half as many mixed states come to them."""
    object_dynamics_horizons: tuple[int, ...] = (4, 8, 16, 24)
    """Lengths of the object dynamics' rollouts, for equal parts of the stage."""
    horizons: tuple[int, ...] = (2, 4, 8, 12)
    """Lengths of the predictor's rollouts, for equal parts of the stage."""
    recolor: int = 1
    """How often state estimator, predictor, success head and metric see every episode again with its cubes in other
    colors, 0 to 3: what happens to a cube does not depend on its color. 0 for pictures in which more is colored."""
    moving: float = 0.5
    """Share of the predictor's windows that are drawn from those in which a cube moves; the others are any."""
    object_state_weight: float = 3.0
    """Weight of the object state that is estimated from predicted tokens, beside the tokens' own error."""
    pixel_weight: float = 16.0
    """Weight of pixels that differ from the background."""
    placing_weight: float = 0.3
    """Weight of the object state that is estimated from the encoder's tokens, beside the pictures."""
    token_noise: float = 0.1
    """Noise on the tokens that the decoder sees."""
    rollout_noise: float = 0.05
    """Noise on the first tokens of a rollout."""
    autoencoder_rate: float = 2e-3
    """Peak learning rate of the auto-encoder."""
    state_estimator_rate: float = 6e-3
    """Peak learning rate of the state estimator."""
    arm_renderer_rate: float = 3e-2
    """Peak learning rate of the arm renderer."""
    object_dynamics_rate: float = 1.2e-2
    """Peak learning rate of the object dynamics."""
    predictor_rate: float = 1.2e-2
    """Peak learning rate of the predictor."""
    painter_rate: float = 4e-3
    """Peak learning rate of the painter."""
    success_rate: float = 3e-3
    """Peak learning rate of the success head."""
    metric_rate: float = 3e-3
    """Peak learning rate of the metric."""
    average: float = 0.995
    """Decay of the averaged weights that are kept."""
    held_out: float = 0.05
    """Part of the episodes that is measured on and not trained on."""
    test: Path | None = None
    """Folder of other episodes to take the final figures on; None takes the held-out ones."""
    false_positives: float = 0.015
    """Rate of false alarms in dreamt states at which success_threshold is set, in the task with the most of them; less
    than the 2 % that `agents.fidelity` asks for, as other episodes may have more."""
    probe_updates: int = 500
    """Updates of each probe of the final measurement."""
    initial_states: int = 300
    """Episodes per task whose starts and goals are kept beside the weights, for dreams to begin with; 0 keeps none."""
    seed: int = 0
    """Seed of weights, batches and split."""
    split_seed: int | None = None
    """Seed of the split into episodes to train on and held-out ones; None takes --seed."""
    processes: int = 1
    """Processes on this machine that share the work, with the curves of one; as many as there are idle cores. Several
    machines: `torchrun`, see docs/scaling.md."""
    threads: int | None = None
    """Threads of torch in each process; None takes two for a process that is alone, and one for each of several."""
    device: Device = "cpu"
    """Device of the updates; episodes are encoded, and the model measured, on the CPU."""
    bfloat16: bool | None = None
    """Trains in mixed precision; None does so where the processor has instructions for it, or on a GPU."""
    muon: bool = True
    """Trains matrices by Muon; False takes AdamW for everything."""
    model: StateGroundedConfig = field(default_factory=StateGroundedConfig)
    """Architecture; with --init only of a new predictor, and of the metric, which is made anew where it differs."""

    def __post_init__(self) -> None:
        """Refuses at once what would fail after hours, or spoil them without a word.

        Raises:
            ValueError: If an argument is not accepted.
        """
        check_choice("objective", self.objective, Objective)
        check_choice("recolor", self.recolor, range(len(COLORS)))
        for name, value in vars(self).items():
            low = LEAST.get(name.rpartition("_")[2])
            if low is not None and value is not None:
                check_number(name, value, low)
        for name in SHARE:
            check_number(name, getattr(self, name), high=1)
        for name, least in {"minutes": 1e-6, "episodes": 1, "threads": 1}.items():
            if getattr(self, name) is not None:
                check_number(name, getattr(self, name), least, beside="None, ")
        for name in ("horizons", "object_dynamics_horizons"):
            if min(getattr(self, name), default=0) < 1:
                raise ValueError(f"{name}={getattr(self, name)}; accepted: one length or more, each of 1 step or more")
        if self.new_predictor and not self.init:
            raise ValueError("new_predictor=True without init; accepted: with init, whose other parts are kept")
        if self.init and self.autoencoder:
            raise ValueError(f"init={self.init} with autoencoder={self.autoencoder}; accepted: one of them")
        if not (self.autoencoder_updates or self.init or self.autoencoder):
            raise ValueError(
                "autoencoder_updates=0 leaves a new encoder as chance drew it; accepted: 1 or more, or with --init or "
                "--autoencoder"
            )

    def settings(self) -> dict[str, Any]:
        """Returns what fixes the course of a run, JSON-able."""
        free = ("out", "processes", "threads", "device", *LATER)
        values = {name: value for name, value in asdict(self).items() if name not in free}
        paths = {name: str(getattr(self, name)) for name in ("init", "autoencoder")}
        return values | paths | {"data": [str(folder.resolve()) for folder in self.data]}

    def updates(self, stage: str) -> int:
        """Returns the updates of a stage; 0 leaves it out."""
        predicts, made = self.predictor_updates > 0, not self.init or self.new_predictor
        kept = {
            "autoencoder": self.autoencoder,
            "arm_renderer": not (predicts and made and self.model.arm_renderer_width),
            "object_dynamics": not predicts,
        }
        return 0 if kept.get(stage) else int(getattr(self, f"{stage}_updates"))

    def share(self, stage: str) -> float | None:
        """Returns the minutes of a stage; None where it counts updates."""
        if self.minutes is None or not self.updates(stage):
            return None
        return self.minutes * SHARES[stage] / sum(SHARES[each] for each in SHARES if self.updates(each))
