"""The fidelity report of world models without token maps: their slots are the tokens."""

import json

import numpy as np
import pytest
import torch
from recorded import recorded

from dream_env.agents.fidelity import command as fidelity
from dream_env.agents.fidelity import replay
from dream_env.agents.fidelity.view import TokenView, viewed
from dream_env.agents.nicol import probes
from dream_env.agents.nicol.encoded_dataset import encode_episodes
from dream_env.nicol.episodes import EpisodeDataset
from dream_env.nicol.spec import SPEC
from dream_env.world_models import checkpoint
from dream_env.world_models.dynamics import DynamicsConfig, DynamicsModel
from dream_env.world_models.slots.config import SlotConfig
from dream_env.world_models.slots.model import SlotModel
from dream_env.world_models.slots.reader import SEEN
from dream_env.world_models.unified.model import UnifiedModel


@pytest.fixture(scope="module", params=["slots", "unified"])
def model(request):
    torch.manual_seed(0)
    by_goal = request.param == "unified"
    base = SlotModel(SlotConfig(slots=4, width=16, net_width=16, net_dim=8, success_by_goal=by_goal), SPEC).eval()
    made = base if request.param == "slots" else UnifiedModel.around(base, width=16, hidden=16, features=8).eval()
    return made.requires_grad_(False)


@pytest.fixture(scope="module")
def episodes():
    return recorded(12, first_seed=100)


def test_a_state_is_made_again_of_its_tokens(model, episodes):
    view = viewed(model)
    latents = encode_episodes(view, episodes)
    assert isinstance(view, TokenView) and latents.tokens.shape[2:] == (4, 6)
    first = view.state_of(latents.tokens[:, 0].float(), latents.proprio[:, 0], latents.instruction)
    pictures = torch.from_numpy(episodes.images[:, 0].copy())
    seen = {"pixels": pictures, "proprio": latents.proprio[:, 0], "instruction": latents.instruction}
    own = model.encode(seen)
    torch.testing.assert_close(model.embedding(first), model.embedding(own), atol=2e-2, rtol=1e-2)
    after, its = view.step(first, latents.action[:, 0])[0], model.step(own, latents.action[:, 0])[0]
    torch.testing.assert_close(after["tokens"], its["slots"], atol=2e-3, rtol=1e-2)
    goal, _ = replay.goals(view, latents, episodes.goal_image)
    assert goal["proprio"].abs().sum() > 0, "read from the picture"


def test_what_is_hidden_stays_where_it_was_seen(model, episodes):
    view, pictures = viewed(model), torch.from_numpy(episodes.images[0][:3].copy())
    inner, seen = model.encode, [1.0, 0.0, 0.0]

    class Hiding(TokenView):
        def encode(self, observation, previous=None):
            state = inner(observation)
            state["slots"] = torch.full_like(state["slots"], 1.0 - seen[0])
            state["slots"][..., SEEN] = seen.pop(0)
            before = None if previous is None else previous["slots"]
            hidden = state["slots"][..., SEEN:] == 0
            slots = state["slots"] if before is None else torch.where(hidden, before, state["slots"])
            return self._shown({**state, "slots": slots})

    tokens = Hiding(view.model).watch(pictures, torch.zeros(3, 4))
    assert torch.equal(tokens[0], tokens[2]), "every frame is encoded with the one before"


def test_a_probe_takes_any_number_of_tokens():
    for tokens, grid in ((64, (8, 8)), (4, (2, 2)), (5, (1, 5)), (1, (1, 1))):
        probe = probes.Probe(6, tokens)
        assert probe.grid == grid and probe(torch.zeros(2, tokens, 6), torch.zeros(2, 4)).hand.shape == (2, 3)


def test_the_whole_report(model, monkeypatch, tmp_path):
    monkeypatch.setattr(replay, "held_out", lambda jobs, *rest: recorded(len(jobs), jobs[0].seed))
    monkeypatch.setattr(EpisodeDataset, "load", lambda root: recorded(6, first_seed=50_000))
    folder = tmp_path / "model"
    checkpoint.save(model, folder, "card")
    args = fidelity.Arguments(
        data=tmp_path / "data",
        world_model=str(folder),
        out=tmp_path / "out",
        cache=tmp_path / "cache",
        episodes=24,
        probe_updates=3,
        again=0,
        scenes=0,
        workers=1,
    )
    fidelity.main(args)
    found = json.loads((args.out / "fidelity.json").read_text())
    for task in found["tasks"].values():
        assert task["hand_cm_24"] > 0 and np.isfinite(task["success_auc"])
        assert set(task["rewards"]) == {"energy", "progress", "bounded", "success"}
    assert 0 <= found["disagreement"]["outliers"]["chimera"]["auc"] <= 1


def test_a_world_model_whose_states_do_not_show_where_things_are_is_refused():
    with pytest.raises(ValueError, match="kind 'dynamics'.*accepted: .*slots or unified"):
        viewed(DynamicsModel(DynamicsConfig(), SPEC))
    assert viewed(held := object()) is held
