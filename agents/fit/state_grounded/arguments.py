"""Arguments of `agents.fit --model state_grounded`, the default for NICOL."""

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
"""Share of `--minutes` for each stage; the share of stages without updates is divided among the others."""
LEAST = {"updates": 0, "batch": 2, "rate": 0, "weight": 0, "noise": 0, "seed": 0, "states": 0, "processes": 1}
"""Smallest accepted values of options, by the last word of their name."""
SHARE = ("moving", "average", "held_out", "false_positives")
"""Options that accept values from 0 to 1."""
LATER = ("test", "false_positives", "probe_updates", "initial_states")
"""Options that are used only after training, and that may therefore change when a run is resumed."""
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

    The stages are auto-encoder (picture to tokens and back), state estimator (tokens to positions of hand and cubes),
    arm renderer, object dynamics (predicts the positions of hand and cubes), predictor (next tokens), painter (decodes
    states to pictures), success head, and metric (steps to the goal).
    """

    data: tuple[Path, ...]
    """Folders of episodes, recorded by `python -m agents.collect`."""
    out: Path
    """Output folder: the world model, metrics.json, the curves (tensorboard/) and the state of the run (last/)."""
    init: str | None = None
    """World model to start from, with its architecture: a folder, or "state_grounded", which is shipped. By default
    random weights. With --autoencoder-updates 0 the embedding does not change, so that policies remain usable."""
    new_predictor: bool = False
    """With --init: trains predictor and object dynamics from random weights, with the sizes in --model. The other parts
    are kept, and policies that use the embedding remain usable."""
    autoencoder: str | None = None
    """World model whose auto-encoder is kept, while all other parts are new, with the sizes in --model: a folder, or
    "state_grounded", which is shipped."""
    kinds: str | None = None
    """Kinds of episodes to train on, separated by commas. By default all. Held-out episodes are of all kinds."""
    episodes: int | None = None
    """Number of episodes to train on, before --kinds selects among them. By default all that are not held out."""
    objective: Objective = "pixels"
    """Training objective of the encoder: "pixels" (reconstruction), "latent" (prediction of its own tokens some steps
    ahead, jointly with the predictor; the decoder is trained without gradients to the encoder), or "both"."""
    minutes: float | None = None
    """Length of training in minutes instead of updates. Such a run is not exactly reproducible."""
    cpu_time: bool = False
    """Measures --minutes as CPU time of this process, independent of other load on the machine."""
    autoencoder_updates: int = 1200
    """Updates of the auto-encoder; 0 keeps that of --init."""
    state_estimator_updates: int = 3000
    """Updates of the state estimator on encoded frames; 0 keeps that of --init."""
    arm_renderer_updates: int = 800
    """Updates of the arm renderer, before the predictor that it belongs to; only for a new predictor."""
    object_dynamics_updates: int = 1500
    """Updates of the object dynamics, before the predictor; skipped with --predictor-updates 0."""
    predictor_updates: int = 2000
    """Updates of the predictor; 0 keeps that of --init."""
    painter_updates: int = 1500
    """Updates of the painter, the decoder that uses tokens and object states. 0 keeps that of --init, or decodes from
    tokens alone if there is none."""
    success_updates: int = 6000
    """Updates of the success head; 0 keeps that of --init."""
    metric_updates: int = 2500
    """Updates of the metric; 0 keeps that of --init."""
    autoencoder_batch: int = 64
    """Batch size of the auto-encoder in pictures."""
    state_estimator_batch: int = 512
    """Batch size of the state estimator in frames."""
    arm_renderer_batch: int = 512
    """Batch size of the arm renderer in pairs of frames."""
    object_dynamics_batch: int = 2048
    """Batch size of the object dynamics in predicted steps: number of windows times their length."""
    predictor_batch: int = 512
    """Batch size of the predictor in predicted steps: number of windows times their length."""
    painter_batch: int = 32
    """Batch size of the painter in pictures; half of them belong to states of rollouts."""
    success_batch: int = 256
    """Batch size of the success head in states, half encoded and half from rollouts."""
    metric_batch: int = 512
    """Batch size of the metric in pairs of a state and a goal; half of the states are from rollouts. Half as many mixed
    states (hand and cubes of different frames) are added."""
    object_dynamics_horizons: tuple[int, ...] = (4, 8, 16, 24)
    """Rollout lengths in training of the object dynamics, in control steps, each for an equal part of the stage."""
    horizons: tuple[int, ...] = (2, 4, 8, 12)
    """Rollout lengths in training of the predictor, in control steps, each for an equal part of the stage."""
    recolor: int = 1
    """Number of recolored copies of every episode, 0 to 3, as data augmentation: the cubes swap colors. Used for state
    estimator, object dynamics, predictor, success head and metric. Use 0 if more than the cubes is colored in the
    pictures."""
    moving: float = 0.5
    """Share of the training windows of predictor and object dynamics, 0 to 1, in which a cube moves; the others are
    random."""
    object_state_weight: float = 3.0
    """Weight, in the predictor's loss, of the error of the object state estimated from predicted tokens; the error of
    the tokens has weight 1."""
    pixel_weight: float = 16.0
    """Weight, in the reconstruction loss, of pixels that differ from the background; others have weight 1. Raise it if
    cubes are lost in reconstructions."""
    placing_weight: float = 0.3
    """Weight, in the auto-encoder's loss, of the error of the object state estimated from the tokens; the
    reconstruction error has weight 1."""
    token_noise: float = 0.1
    """Standard deviation of the noise on the decoder's input tokens in training."""
    rollout_noise: float = 0.05
    """Standard deviation of the noise on the first tokens of a rollout in training."""
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
    """Decay of the exponential moving average of the weights, which becomes the final weights."""
    held_out: float = 0.05
    """Fraction of the episodes that is held out for measurements."""
    test: Path | None = None
    """Folder of other episodes for the final figures. By default the held-out ones."""
    false_positives: float = 0.015
    """Highest accepted false-positive rate of the success head on states of rollouts, in any task; success_threshold is
    set accordingly. It is lower than the 2 % that `agents.fidelity` requires, as other episodes may have more."""
    probe_updates: int = 500
    """Updates of each probe in the final measurement."""
    initial_states: int = 300
    """Episodes per task whose initial states and goals are saved with the world model, to start rollouts from; 0 saves
    none."""
    seed: int = 0
    """Seed of weights, batches and the held-out split."""
    split_seed: int | None = None
    """Seed of the split into training and held-out episodes. By default --seed."""
    processes: int = 1
    """Number of data-parallel processes on this machine; the result is the same as with one process, up to rounding.
    Use as many as there are idle cores. For several machines use `torchrun`, see docs/scaling.md."""
    threads: int | None = None
    """Number of torch threads per process. By default two for a single process, and one for each of several."""
    device: Device = "cpu"
    """Device of training. Episodes are encoded, and the model is measured, on the CPU."""
    bfloat16: bool | None = None
    """Trains in mixed precision. By default on a GPU, or if the CPU has bfloat16 instructions."""
    muon: bool = True
    """Trains matrices with the optimizer Muon. --no-muon uses AdamW for all parameters."""
    model: StateGroundedConfig = field(default_factory=StateGroundedConfig)
    """Architecture. With --init it applies only to a new predictor (--new-predictor), and to the metric, which is
    trained from random weights if it differs."""

    def __post_init__(self) -> None:
        """Checks the arguments, so that a run does not fail after hours.

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
                "autoencoder_updates=0 leaves a new encoder with random weights; accepted: 1 or more, or with --init "
                "or --autoencoder"
            )

    def settings(self) -> dict[str, Any]:
        """Returns the settings that determine the result of a run, as JSON types."""
        free = ("out", "processes", "threads", "device", *LATER)
        values = {name: value for name, value in asdict(self).items() if name not in free}
        paths = {name: str(getattr(self, name)) for name in ("init", "autoencoder")}
        return values | paths | {"data": [str(folder.resolve()) for folder in self.data]}

    def updates(self, stage: str) -> int:
        """Returns the number of updates of a stage; 0 if it is skipped."""
        predicts, made = self.predictor_updates > 0, not self.init or self.new_predictor
        kept = {
            "autoencoder": self.autoencoder,
            "arm_renderer": not (predicts and made and self.model.arm_renderer_width),
            "object_dynamics": not predicts,
        }
        return 0 if kept.get(stage) else int(getattr(self, f"{stage}_updates"))

    def share(self, stage: str) -> float | None:
        """Returns the minutes of a stage; None if its length is given by updates, or if it is skipped."""
        if self.minutes is None or not self.updates(stage):
            return None
        return self.minutes * SHARES[stage] / sum(SHARES[each] for each in SHARES if self.updates(each))
