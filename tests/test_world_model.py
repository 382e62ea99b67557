"""The default world model and its files."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from dream_env.nicol import constants
from dream_env.nicol.world_model.model import StateGroundedConfig, StateGroundedModel
from dream_env.world_models import checkpoint
from dream_env.world_models.protocol import HasMetric, HasSuccess, HasWords

SMALL = StateGroundedConfig(autoencoder_widths=(8, 8, 8), width=16, blocks=2, head_width=8)


def randomized(config: StateGroundedConfig | None = None) -> StateGroundedModel:
    """A model with random weights everywhere, as a trained one has."""
    torch.manual_seed(0)
    model = StateGroundedModel(config).eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter.normal_(0, parameter[0].numel() ** -0.5 if parameter.ndim > 1 else 0.1)
    return model


def inputs(rows: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {
        "images": torch.randint(0, 256, (rows, 64, 64, 3), generator=generator, dtype=torch.uint8),
        "proprio": 2 * torch.rand(rows, 4, generator=generator) - 1,
        "action": 2 * torch.rand(rows, 4, generator=generator) - 1,
        "goal": torch.randn(rows, 1024, generator=generator),
        "instruction": 2 * torch.rand(rows, 64, generator=generator) - 1,
        "noise": torch.rand(rows, generator=generator),
    }


def everything(model: StateGroundedModel, x: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    state = model.encode(x["images"], x["proprio"])
    after = model.step(state, x["action"])
    return {
        "encode": state.tokens,
        "tokens": after.tokens,
        "proprio": after.proprio,
        "noise": model.step(state, x["action"], x["noise"]).tokens,
        "metric": model.metric(model.embedding(state)),
        "embedding": model.embedding(after),
        "decode": model.decode(after),
        "success": model.success(after, x["goal"], x["instruction"]),
        "judged": model.judge(after, x["goal"], x["instruction"])[1],
        "disagreement": model.disagreement(after, x["action"]),
    }


def test_judging_gives_metric_and_success_bit_for_bit():
    model, x = randomized(), inputs(5)
    state = model.encode(x["images"], x["proprio"])
    vectors, success = model.judge(state, x["goal"], x["instruction"])
    assert torch.equal(vectors, model.metric(model.embedding(state)))
    assert torch.equal(success, model.success(state, x["goal"], x["instruction"]))
    with pytest.raises(ValueError, match="no learned metric.*accepted"):
        randomized(replace(SMALL, metric_dim=0)).judge(state, x["goal"], x["instruction"])


@pytest.mark.parametrize("name", ["default", "heads"])
def test_compiled_model_is_whole_graphs_with_the_same_weights(name, monkeypatch):
    compile, calls = torch.compile, []

    def whole(function):  # as it is captured, without the minute that generating code takes
        calls.append(function)
        return compile(function, backend="eager", fullgraph=True)

    monkeypatch.setattr(torch, "compile", whole)
    model, x = randomized(VARIANTS.get(name, SMALL)), inputs(6)
    fast = model.compiled()
    assert calls and fast.predictor is model.predictor
    with torch.inference_mode():
        for key, value in everything(fast, x).items():
            torch.testing.assert_close(value, everything(model, x)[key], rtol=1e-5, atol=1e-5)
    assert "_expect" not in vars(model)


@pytest.mark.slow
def test_compiled_code_computes_the_same():
    model, x = randomized(SMALL), inputs(6)
    with torch.inference_mode():
        for key, value in everything(model.compiled(), x).items():
            torch.testing.assert_close(value, everything(model, x)[key], rtol=1e-4, atol=1e-4)


def test_shapes_and_types():
    model = StateGroundedModel(SMALL).eval()
    out = everything(model, inputs(5))
    assert model.embedding_dim == 1024
    assert {k: tuple(v.shape) for k, v in out.items()} == {
        "encode": (5, 64, 16),
        "tokens": (5, 64, 16),
        "proprio": (5, 4),
        "noise": (5, 64, 16),
        "metric": (5, 64),
        "embedding": (5, 1024),
        "decode": (5, 64, 64, 3),
        "success": (5,),
        "judged": (5,),
        "disagreement": (5,),
    }
    assert out["decode"].dtype == torch.uint8
    assert ((out["success"] > 0) & (out["success"] < 1)).all()
    assert StateGroundedModel().embedding_dim == 1024


@pytest.mark.parametrize("threads", ["1", "2", "3"])
def test_rows_depend_neither_on_the_batch_nor_on_threads(threads, monkeypatch):
    model, x = randomized(), inputs(300)
    monkeypatch.setenv("DREAM_ENV_THREADS", "1")
    sizes = (1, 2, 3, 5, 16, 19, 31, 33, 66, 67, 256, 257, 300)
    with torch.inference_mode():
        whole = everything(model, x)
        monkeypatch.setenv("DREAM_ENV_THREADS", threads)
        for rows in [*(slice(0, n) for n in sizes), slice(77, 78), slice(290, 293)]:
            part = everything(model, {k: v[rows].clone() for k, v in x.items()})
            for name, value in part.items():
                assert torch.equal(value, whole[name][rows]), (name, rows)


VARIANTS = {
    "vector": StateGroundedConfig(
        grid=1, channels=96, autoencoder_widths=(8, 8, 8), width=64, head_width=32, metric_dim=8
    ),
    "heads": StateGroundedConfig(autoencoder_widths=(8, 8, 8), width=16, head_width=8, interaction=0),
    "learned proprio": StateGroundedConfig(autoencoder_widths=(8, 8, 8), width=16, head_width=8, proprio="learned"),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_variants_keep_the_contract(name, tmp_path):
    model, x = randomized(VARIANTS[name]), inputs(37)
    x["goal"] = x["goal"][:, : model.embedding_dim]
    with torch.inference_mode():
        whole = everything(model, x)
        for rows in (slice(0, 1), slice(5, 8), slice(30, 37)):
            part = everything(model, {k: v[rows].clone() for k, v in x.items()})
            for key, value in part.items():
                if model.config.grid > 1:
                    assert torch.equal(value, whole[key][rows]), key
                torch.testing.assert_close(
                    value.float(), whole[key][rows].float(), rtol=0, atol=1.01 * (key == "decode") + 1e-5
                )
    assert whole["embedding"].shape == (37, model.config.grid**2 * model.config.channels)
    assert whole["decode"].shape == (37, 64, 64, 3) and whole["decode"].float().std(0).mean() > 0
    checkpoint.save(model, tmp_path / "model", "")
    with torch.inference_mode():
        again = everything(checkpoint.load(tmp_path / "model"), x)
    assert all(torch.equal(value, whole[key]) for key, value in again.items())


def test_vector_reads_and_measures_what_is_in_it():
    model, x = randomized(VARIANTS["vector"]), inputs(3)
    embedding = model.embedding(model.encode(x["images"], x["proprio"]))
    assert model.metric(embedding).shape == (3, 8)
    assert (model.metric(embedding)[0] - model.metric(embedding)[1]).abs().max() > 1e-6


def test_ensemble_steps_by_the_mean_of_its_heads():
    model, x = randomized(StateGroundedConfig(ensemble=5, interaction=0)), inputs(3)
    state = model.encode(x["images"], x["proprio"])
    heads = model.predictor(state.tokens, state.proprio, x["action"], state.situation)[0]
    assert len(heads) == 5 and heads.std(0).max() > 1e-3
    noise = torch.tensor([0.0, 0.5, 0.99])
    torch.testing.assert_close(model.step(state, x["action"], noise).tokens, heads[[0, 2, 4], range(3)])
    halfway = (heads[[0, 2, 4], range(3)] + heads.mean(0)) / 2
    torch.testing.assert_close(model.step(state, x["action"], noise, 0.5).tokens, halfway)
    torch.testing.assert_close(model.step(state, x["action"]).tokens, heads.mean(0), rtol=1e-4, atol=1e-5)
    spread = heads.var(0, correction=0).mean((1, 2))
    torch.testing.assert_close(model.disagreement(state, x["action"]), spread)


def test_learned_proprio_moves_by_its_own_rule():
    model, x = StateGroundedModel(VARIANTS["learned proprio"]).eval(), inputs(3)
    state = model.encode(x["images"], x["proprio"])
    torch.testing.assert_close(model.step(state, x["action"]).proprio, x["proprio"])  # untrained, it stays
    model.predictor.setpoint[-1].bias.data.fill_(0.25)
    torch.testing.assert_close(model.step(state, x["action"]).proprio, x["proprio"] + 0.25)


@pytest.mark.parametrize("values", [{"grid": 3}, {"grid": 0}, {"proprio": "guessed"}])
def test_impossible_architectures_are_refused(values):
    with pytest.raises(ValueError, match=f"{next(iter(values))}=.*accepted"):
        StateGroundedModel(StateGroundedConfig(**values))


def test_step_is_pure_and_moves_the_setpoint_as_physics_does():
    model, x = randomized(), inputs(6)
    state = model.encode(x["images"], x["proprio"])
    before = [part.clone() for part in state]
    first, second = (model.step(state, x["action"]) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(state, before, strict=True))
    assert not torch.equal(first.tokens, state.tokens)
    expected = constants.integrate(x["proprio"].numpy(), x["action"].numpy())
    np.testing.assert_array_equal(first.proprio.numpy(), expected)


def test_step_is_differentiable():
    model, x = randomized(SMALL), inputs(3)
    action = x["action"].requires_grad_()
    model.step(model.encode(x["images"], x["proprio"]), action).tokens.square().sum().backward()
    assert action.grad is not None and action.grad.abs().sum() > 0


def test_untrained_predictor_predicts_no_change_and_no_disagreement():
    model, x = StateGroundedModel(replace(SMALL, futures=1)).eval(), inputs(3)
    state = model.encode(x["images"], x["proprio"])
    torch.testing.assert_close(model.step(state, x["action"]).tokens, state.tokens, rtol=0, atol=1e-6)
    torch.testing.assert_close(model.disagreement(state, x["action"]), torch.zeros(3), rtol=0, atol=1e-9)


def test_disagreement_is_the_variance_between_heads():
    x = inputs(3)
    for heads, differ in ((1, False), (3, True)):
        model = randomized(StateGroundedConfig(autoencoder_widths=(8, 8, 8), width=16, blocks=1, ensemble=heads))
        state = model.encode(x["images"], x["proprio"])
        assert bool((model.disagreement(state, x["action"]) > 1e-6).all()) is differ


def test_encode_names_bad_pictures():
    model = StateGroundedModel(SMALL)
    for images in (torch.zeros(1, 64, 64, 3), torch.zeros(1, 3, 64, 64, dtype=torch.uint8)):
        with pytest.raises(ValueError, match="pixels are .*accepted: torch.uint8"):
            model.encode(images, torch.zeros(1, 4))


@pytest.fixture
def folder(tmp_path):
    checkpoint.save(randomized(SMALL), tmp_path / "model", "# Card\n")
    return tmp_path / "model"


def test_checkpoint_round_trip_is_exact_shared_and_frozen(folder):
    model = checkpoint.load(folder)
    assert model is checkpoint.load(str(folder))
    assert model.config == SMALL
    assert not model.training and not any(p.requires_grad for p in model.parameters())
    original = randomized(SMALL).state_dict()
    assert all(torch.equal(value, original[name]) for name, value in model.state_dict().items())
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    assert json.loads((folder / "config.json").read_text())["kind"] == "state_grounded"
    assert len(checkpoint.sha256(folder)) == 64
    assert checkpoint.sha256(folder) == checkpoint.sha256(folder / "model.safetensors")


def test_saving_again_keeps_other_files_and_survives_a_crash(folder, monkeypatch):
    (folder / "initial_states.npz").write_bytes(b"starts")
    weights = (folder / "model.safetensors").read_bytes()
    with monkeypatch.context() as broken:
        broken.setattr(checkpoint, "save_file", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
        with pytest.raises(OSError):
            checkpoint.save(StateGroundedModel(SMALL), folder, "")
    assert (folder / "model.safetensors").read_bytes() == weights
    checkpoint.save(StateGroundedModel(SMALL), folder, "")
    assert (folder / "initial_states.npz").read_bytes() == b"starts"
    assert (folder / "model.safetensors").read_bytes() != weights


def test_a_model_that_was_written_anew_is_loaded_anew(folder):
    before = checkpoint.load(folder)
    checkpoint.save(StateGroundedModel(SMALL), folder, "")
    after = checkpoint.load(folder)
    assert after is not before and after is checkpoint.load(folder)
    assert not torch.equal(after.state_dict()[KEY], before.state_dict()[KEY])


def test_default_lies_in_the_assets():
    assert checkpoint.resolve("default").parts[-2:] == ("assets", "world_model")


@pytest.mark.parametrize("name", ["", "config.json", "model.safetensors"])
def test_missing_file_names_the_command(folder, name):
    missing = folder / name if name else folder.parent / "nowhere"
    missing.unlink(missing_ok=True)
    with pytest.raises(FileNotFoundError, match=f"{missing.name} does not exist.*python -m agents.fit"):
        checkpoint.load(folder if name else missing)


def edit_config(folder, **values):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | values))


def edit_weights(folder, change):
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")


def cut(folder, size):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:size])


KEY = "predictor.input.weight"
DAMAGE = {
    "truncated": (lambda f: cut(f, 5000), "is damaged"),
    "header only": (lambda f: cut(f, 20), "is damaged"),
    "empty": (lambda f: cut(f, 0), "is damaged"),
    "no safetensors": (lambda f: (f / "model.safetensors").write_bytes(b"\x80\x04pickle" * 9), "is damaged"),
    "tensor missing": (lambda f: edit_weights(f, lambda t: t.pop(KEY)), f"{KEY} is missing"),
    "tensor too many": (lambda f: edit_weights(f, lambda t: t.update(x=t[KEY].clone())), "x is not known"),
    "shape": (lambda f: edit_weights(f, lambda t: t.update({KEY: torch.zeros(2, 3)})), r"\(2, 3\), not .*\(16, 80\)"),
    "type": (lambda f: edit_weights(f, lambda t: t.update({KEY: t[KEY].half()})), "float16"),
    "other width": (lambda f: edit_config(f, width=24), "does not fit config.json"),
    "kind": (lambda f: edit_config(f, kind="oracle"), r"kind 'oracle'; accepted: \['state_grounded'"),
    "kinds": (lambda f: edit_config(f, kind=["latent"]), r"kind \['latent'\]; accepted"),
    "threshold": (lambda f: edit_config(f, success_threshold=None), "success_threshold=None; accepted"),
    "field": (lambda f: edit_config(f, depth=9), r"unknown fields \['depth'\]"),
    "value": (lambda f: edit_config(f, width="wide"), "describes no model"),
    "no json": (lambda f: (f / "config.json").write_text("{"), "is not"),
    "no kind": (lambda f: (f / "config.json").write_text("{}"), "is not"),
    "no object": (lambda f: (f / "config.json").write_text("[1]"), "is not"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_checkpoint_says_what_is_wrong(folder, damage):
    harm, message = DAMAGE[damage]
    harm(folder)
    with pytest.raises(ValueError, match=f"(?s){message}.*python -m agents.fit"):
        checkpoint.load(folder)


def test_protocol_and_spec():
    model, x = randomized(SMALL), inputs(3)
    observation = {"pixels": x["images"], "proprio": x["proprio"], "instruction": x["instruction"]}
    assert isinstance(model, HasMetric) and isinstance(model, HasSuccess) and isinstance(model, HasWords)
    assert model.spec.name == "NicoLReal-v0" and model.spec.horizon == 24 and model.spec.pictures == ("pixels",)
    assert (model.noise_dim, model.observed, model.embedding_dim) == (1, ("proprio",), 1024)
    state = model.encode(observation)
    assert {name: tuple(part.shape) for name, part in state.items()} == {
        "tokens": (3, 64, 16),
        "proprio": (3, 4),
        "object_state": (3, 24),
        "instruction": (3, 64),
    }
    after, told = model.step(state, x["action"])
    assert after.keys() == state.keys() and torch.equal(after["instruction"], x["instruction"])
    torch.testing.assert_close(told.success, model.success(after))
    assert told.disagreement.shape == (3,) and told.reward is None and told.terminated is None
    assert model.metric(after).shape == (3, 64) and model.embedding(after).shape == (3, 1024)
    drawn, _ = model.step(state, x["action"], x["noise"][:, None], temperature=0.5)
    assert not torch.equal(drawn["tokens"], after["tokens"])
    assert {name: (tuple(part.shape), part.dtype) for name, part in model.decode(after).items()} == {
        "pixels": ((3, 64, 64, 3), torch.uint8),
        "proprio": ((3, 4), torch.float32),
    }


def test_a_goal_needs_pictures_alone_and_success_a_sentence():
    model, x = randomized(SMALL), inputs(3)
    goal = model.encode({"pixels": x["images"]})
    assert not goal["proprio"].any() and model.step(goal, x["action"])[1].success is None
    with pytest.raises(ValueError, match="state has .*accepted: .*'instruction'"):
        model.success(goal)
