"""What a state says of cubes and arm shows in its picture; older checkpoints draw as they did."""

from dataclasses import replace

import numpy as np
import torch
from test_fit import toy

from dream_env.agents.fit.state_grounded import painting
from dream_env.agents.fit.state_grounded.arguments import Arguments
from dream_env.agents.fit.state_grounded.command import _initial
from dream_env.agents.nicol.encoded_dataset import encode_episodes
from dream_env.nicol.world_model.model import StateGroundedModel
from dream_env.nicol.world_model.painter import Painter
from dream_env.nicol.world_model.state_estimator import HAND, OBJECT_STATE
from dream_env.world_models import checkpoint


def test_a_cube_is_drawn_where_the_object_state_has_it():
    """Of a random painter: another place of a cube changes the picture about both places, and nowhere else."""
    torch.manual_seed(0)
    painter = Painter(4, 8, 64, 4)
    with torch.no_grad():
        painter.projection.projection.weight[:2] = torch.eye(3)[:2]
    state = torch.zeros(1, len(OBJECT_STATE))
    cube = len(HAND)
    state[:, cube + 4] = 1  # the first color is present
    moved, absent = state.clone(), state.clone()
    state[:, cube], moved[:, cube] = -0.6, 0.6  # rows
    absent[:, cube + 4] = 0
    pictures = [painter(torch.zeros(1, 64, 4), torch.zeros(1, 4), each)[0] for each in (state, moved, absent)]
    assert pictures[0].shape == (64, 64, 3)
    changed = (pictures[0] - pictures[1]).abs().amax(-1) > 1e-6
    rows = changed.any(1).nonzero()[:, 0].tolist()
    where = [round(3.5 + 28 * (1 + at)) for at in (-0.6, 0.6)]
    assert all(min(abs(row - at) for at in where) < 16 for row in rows) and set(where) <= set(rows)
    assert not changed[:, :14].any() and not changed[:, 50:].any()  # it is in the middle of the columns
    only = (pictures[0] - pictures[2]).abs().amax(-1).amax(1) > 1e-6
    assert only[where[0]] and not only[where[1]]


def test_the_stage_makes_pictures_better_and_leaves_all_else(tmp_path):
    episodes = toy(6)
    args = Arguments(
        data=(tmp_path,),
        out=tmp_path / "out",
        init="state_grounded",
        autoencoder_updates=0,
        painter_updates=1,
        painter_batch=16,
    )
    before = checkpoint.load("state_grounded")
    model = _initial(args).eval()
    assert model.painter is not None
    rows = torch.arange(len(episodes.images))
    train = encode_episodes(model, episodes, rows)
    stage = painting.painter_stage(args, model, episodes, rows, train, rows)
    stage.begin()
    assert model.painter.projection.projection.weight.any()
    optimizer, generator = torch.optim.Adam(model.painter.parameters(), 3e-3), torch.Generator()
    losses = []
    for _ in range(25):
        loss = stage.loss(generator.manual_seed(0), 0.0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.7 * losses[0]
    assert stage.report()["pictures"].shape == (128, 64 * len(rows), 3)
    kept = {name: value for name, value in model.state_dict().items() if not name.startswith("painter.")}
    own = before.state_dict()
    assert all(torch.equal(value, own[name]) for name, value in kept.items())
    model.eval()
    checkpoint.save(model, tmp_path / "saved", "# A model\n")
    again = checkpoint.load(tmp_path / "saved")
    state = model.encode({"pixels": torch.from_numpy(np.asarray(episodes.images[:2, 0]))})
    assert torch.equal(again.decode(state)["pixels"], model.decode(state)["pixels"])


def test_a_model_without_a_painter_draws_its_tokens():
    torch.manual_seed(0)
    plain = checkpoint.load("state_grounded")
    config = replace(plain.config, painter_width=0)
    model = StateGroundedModel(config).eval()
    fresh = {name: value for name, value in plain.state_dict().items() if not name.startswith("painter.")}
    model.load_state_dict(fresh)
    images = torch.full((1, 64, 64, 3), 90, dtype=torch.uint8)
    state = model.encode({"pixels": images})
    drawn = (255 * model.autoencoder.decode(state["tokens"])).round().clamp(0, 255).to(torch.uint8)
    assert model.painter is None and torch.equal(model.decode(state)["pixels"], drawn)
