"""Command-line arguments of `agents.evolve`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from dream_env.agents.run.config import resolve_paths, split
from dream_env.checks import check_choice, check_number
from dream_env.rewards import RewardName


@dataclass(frozen=True)
class Arguments:
    """Evolves a small controller inside a learned world model, by CMA-ES."""

    out: Path
    """Output folder for the controller, the tensorboard logs and the state of the run."""
    world_model: str = "default"
    """Checkpoint of the world model: a folder, or "default" for NICOL's, which is shipped."""
    world: Literal["dream", "real"] = "dream"
    """World to evolve in: the dream or the real environment."""
    env: str | None = None
    """Id of the real environment; None uses the one that the world model was fitted to."""
    task: str = "all"
    """Task to evolve for; "all" selects a random one for each episode.
    NICOL's tasks are too different for one small controller: choose one, such as --task reach."""
    inputs: tuple[str, ...] = ()
    """Inputs of the controller: parts of an observation (embedding, goal, ...), entries of the world model's state,
    or entries of its `features`. By default all features if the model has some, else the whole observation."""
    obs_type: Literal["embedding", "native"] = "embedding"
    """Observations that the controller takes: "embedding" those encoded by the world model,
    "native" the vectors that the environment itself returns, without the encoder."""
    hidden: int = 0
    """Width of the hidden layer; 0 for a linear controller."""
    components: int = 0
    """Number of principal components of the inputs that the controller uses; 0 uses the inputs themselves.
    They are computed under random actions in the world to evolve in. Fewer weights need fewer generations."""
    init: str = "none"
    """Policy to start from, whose actions the first controller is fitted to by least squares:
    a folder, or a shipped one, see `agents.clone`. "none" starts with zero weights."""
    reward: RewardName | None = None
    """Reward whose sum over an episode is maximized; "success" counts once, at the end of the episode.
    None uses the default reward of the world."""
    generations: int = 100
    """Total number of generations; repeat the command with a larger number to continue a finished run."""
    population: int = 64
    """Number of controllers in a generation."""
    rollouts: int = 16
    """Dreams, or real episodes, per controller; all controllers get the same initial states and the same noise."""
    antithetic: bool = False
    """Uses antithetic noise: half of the dreams get the mirrored noise of the other half."""
    sigma: float = 0.1
    """Initial standard deviation of the weights; inputs have unit variance."""
    weight_decay: float = 0.01
    """Factor of the mean squared weights, which are subtracted from a controller's mean return.
    Keeps weights without effect small and actions from saturating (as in the code of Ha & Schmidhuber 2018)."""
    diagonal: bool = False
    """Adapts variances only, which is faster with more than a few thousand weights."""
    temperature: float = 1.0
    """Strength of the noise in dreams: 0 for the most likely future, 1 for the model's own distribution.
    Above 1, errors of the dream are harder to exploit."""
    starts: Literal["episode", "any"] = "episode"
    """Initial states of dreams: "episode" uses the starts of recorded episodes, "any" takes 40 % from mid-episode."""
    initial_states: Path | None = None
    """File of initial states, written by `dream_env.initial_states.InitialStates.save`; None uses the world model's."""
    max_steps: int = 1000
    """Maximum number of steps in an episode."""
    disagreement_penalty: float = 0.0
    """Weight of the ensemble's disagreement, which is subtracted from the reward in dreams."""
    validate_every: int = 10
    """Generations between two evaluations of the distribution's mean on validation seeds; the best one is saved."""
    validation_dreams: int = 1024
    """Dreams in such an evaluation. In the real environment it uses 4 * rollouts episodes instead."""
    episodes: int = 100
    """Episodes per task in the final evaluation in both worlds; 0 skips it."""
    workers: int | None = None
    """Number of processes for real episodes; by default one per core."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Precision of the world model's matrix products; "bfloat16" is faster on processors that support it."""
    seed: int = 0
    """Seed of all random numbers."""
    device: str = "cpu"
    """Torch device of dreams and controllers."""

    def __post_init__(self) -> None:
        """Checks the values that can be checked without reading files."""
        object.__setattr__(self, "inputs", split(self.inputs))
        if self.init.lower() == "none":
            object.__setattr__(self, "init", "none")
        check_choice("world", self.world, ("dream", "real"))
        check_choice("obs_type", self.obs_type, ("embedding", "native"))
        check_choice("precision", self.precision, ("float32", "bfloat16"))
        for name, least in (("generations", 1), ("population", 4), ("rollouts", 1), ("max_steps", 1)):
            check_number(name, getattr(self, name), least)
        for name in ("hidden", "components", "temperature", "disagreement_penalty", "weight_decay", "episodes", "seed"):
            check_number(name, getattr(self, name))
        for name in ("validate_every", "validation_dreams"):
            check_number(name, getattr(self, name), 1)
        check_number("sigma", self.sigma, 1e-9)
        if self.workers is not None:
            check_number("workers", self.workers, 1, beside="None, or ")

    def settings(self) -> dict[str, Any]:
        """Returns the arguments that must stay the same when a run is resumed, as JSON values."""
        free = ("out", "generations", "episodes", "workers", "device")
        kept = {key: value for key, value in asdict(self).items() if key not in free}
        paths = {**kept, "init": None if self.init == "none" else self.init, "inputs": list(self.inputs)}
        return resolve_paths({**paths, "initial_states": self.initial_states and str(self.initial_states)})
