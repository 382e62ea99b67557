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
        "pixels": torch.randint(0, 256, (rows, 64, 64, 3), generator=generator, dtype=torch.uint8),
        "proprio": 2 * torch.rand(rows, 4, generator=generator) - 1,
        "action": 2 * torch.rand(rows, 4, generator=generator) - 1,
        "instruction": 2 * torch.rand(rows, 64, generator=generator) - 1,
        "noise": torch.rand(rows, 1, generator=generator),
    }


def encoded(model: StateGroundedModel, x: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return model.encode({name: x[name] for name in ("pixels", "proprio", "instruction")})


def everything(model: StateGroundedModel, x: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    state = encoded(model, x)
    after, predicted = model.step(state, x["action"])
    happened = state["object_state"] + 0.1
    posterior = model.posterior_step(state, x["action"], happened, torch.ones_like(happened, dtype=torch.bool))
    return {
        **{f"encoded {name}": part for name, part in state.items()},
        **{f"stepped {name}": part for name, part in after.items()},
        "sampled": model.step(state, x["action"], x["noise"], 0.7)[0]["tokens"],
        "posterior": posterior["tokens"],
        "metric": model.metric(after),
        "embedding": model.embedding(after),
        "decode": model.decode(after)["pixels"],
        "success": model.success(after),
        "predicted success": predicted.success,
        "disagreement": predicted.disagreement,
    }


def close(value: torch.Tensor, expected: torch.Tensor, name: str = "") -> None:
    """Equal up to rounding, which may turn a pixel of a picture by one."""
    bound = 1.01 if value.dtype == torch.uint8 else 1e-5
    torch.testing.assert_close(
        value.float(), expected.float(), rtol=1e-5, atol=bound, msg=lambda text: f"{name}: {text}"
    )


def test_compiled_model_is_whole_graphs_with_the_same_weights(monkeypatch):
    compile, calls = torch.compile, []

    def whole(function):  # as it is captured, without the minute that generating code takes
        calls.append(function)
        return compile(function, backend="eager", fullgraph=True)

    monkeypatch.setattr(torch, "compile", whole)
    model, x = randomized(SMALL), inputs(6)
    fast = model.compiled()
    assert calls and fast.predictor is model.predictor
    with torch.inference_mode():
        for key, value in everything(fast, x).items():
            close(value, everything(model, x)[key], key)
    assert "_mode_step" not in vars(model)


@pytest.mark.slow
def test_compiled_code_computes_the_same():
    model, x = randomized(SMALL), inputs(6)
    with torch.inference_mode():
        for key, value in everything(model.compiled(), x).items():
            torch.testing.assert_close(value, everything(model, x)[key], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("threads", ["1", "2", "3"])
def test_elements_depend_neither_on_the_batch_nor_on_threads(threads, monkeypatch):
    model, x = randomized(), inputs(300)
    monkeypatch.setenv("DREAM_ENV_THREADS", "1")
    with torch.inference_mode():
        whole = everything(model, x)
        monkeypatch.setenv("DREAM_ENV_THREADS", threads)
        for rows in (slice(0, 1), slice(0, 3), slice(0, 33), slice(0, 300), slice(77, 78), slice(290, 293)):
            for name, value in everything(model, {k: v[rows].clone() for k, v in x.items()}).items():
                close(value, whole[name][rows], f"{name} {rows}")


def test_same_batch_repeats_exactly():
    model, x = randomized(), inputs(70)
    with torch.inference_mode():
        first, second = everything(model, x), everything(model, x)
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("without", [{"arm_renderer_width": 0}, {"cube_heatmaps": False}])
def test_a_model_without_an_optional_part_is_kept_and_loaded(tmp_path, without):
    config = replace(SMALL, channels=8, **without)
    model, x = randomized(config), inputs(3)
    with torch.inference_mode():
        whole = everything(model, x)
    assert whole["embedding"].shape == (3, 512) and model.embedding_dim == 512
    checkpoint.save(model, tmp_path / "model", "")
    with torch.inference_mode():
        again = everything(checkpoint.load(tmp_path / "model"), x)
    assert all(torch.equal(value, whole[key]) for key, value in again.items())


def test_step_is_the_mean_of_the_heads_and_disagreement_their_variance():
    model, x = randomized(StateGroundedConfig(ensemble=5)), inputs(3)
    state = encoded(model, x)
    after, predicted = model.step(state, x["action"])
    parts = [state[name] for name in ("proprio", "object_state")]
    setpoint = model.next_setpoint(state["proprio"], x["action"])
    mixture = model.object_dynamics(parts[1], parts[0], setpoint)
    heads = model.predictor(state["tokens"], x["action"], parts[0], setpoint, parts[1], mixture.mode().mean(0))
    assert len(heads) == 5 and heads.std(0).max() > 1e-3
    torch.testing.assert_close(after["tokens"], heads.mean(0))
    torch.testing.assert_close(after["object_state"], mixture.mode().mean(0))
    spread = heads.var(0, correction=0).mean((1, 2)) + mixture.mean().var(0, correction=0).mean(1)
    torch.testing.assert_close(predicted.disagreement, spread)
    for ensemble, differ in ((1, False), (3, True)):
        small = randomized(replace(SMALL, ensemble=ensemble))
        told = small.step(encoded(small, x), x["action"])[1].disagreement
        assert bool((told > 1e-6).all()) is differ


@pytest.mark.parametrize("values", [{"success_threshold": 2.0}, {"disagreement_threshold": -1.0}])
def test_impossible_thresholds_are_refused(values):
    with pytest.raises(ValueError, match=f"{next(iter(values))}=.*accepted"):
        StateGroundedModel(StateGroundedConfig(**values))


def test_step_is_pure_and_moves_the_setpoint_as_physics_does():
    model, x = randomized(), inputs(6)
    state = encoded(model, x)
    before = {name: part.clone() for name, part in state.items()}
    (first, _), (second, _) = (model.step(state, x["action"]) for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert all(torch.equal(state[name], before[name]) for name in before)
    assert not torch.equal(first["tokens"], state["tokens"])
    expected = constants.integrate(x["proprio"].numpy(), x["action"].numpy())
    np.testing.assert_array_equal(first["proprio"].numpy(), expected)


def test_step_is_differentiable():
    model, x = randomized(SMALL), inputs(3)
    action = x["action"].requires_grad_()
    after, predicted = model.step(encoded(model, x), action)
    for value in (after["tokens"].square().sum(), predicted.success.sum(), predicted.disagreement.sum()):
        action.grad = None
        value.backward(retain_graph=True)
        assert action.grad is not None and action.grad.abs().sum() > 0


def test_untrained_predictor_predicts_no_change_and_no_disagreement():
    model, x = StateGroundedModel(replace(SMALL, mixture_components=1)).eval(), inputs(3)
    state = encoded(model, x)
    after, predicted = model.step(state, x["action"])
    torch.testing.assert_close(after["tokens"], state["tokens"], rtol=0, atol=1e-6)
    torch.testing.assert_close(predicted.disagreement, torch.zeros(3), rtol=0, atol=1e-9)


def test_encode_names_bad_pictures():
    model = StateGroundedModel(SMALL)
    for images in (torch.zeros(1, 64, 64, 3), torch.zeros(1, 3, 64, 64, dtype=torch.uint8)):
        with pytest.raises(ValueError, match="pixels are .*accepted: torch.uint8"):
            model.encode({"pixels": images})


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
    assert sorted(path.name for path in folder.iterdir()) == [
        "README.md",
        "config.json",
        "model.safetensors",
        "spec.json",
    ]
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
    assert checkpoint.resolve("default").parts[-2:] == ("assets", "unlabelled")


@pytest.mark.parametrize("name", ["", "config.json", "model.safetensors"])
def test_missing_file_names_the_command(folder, name):
    missing = folder / name if name else folder.parent / "nowhere"
    missing.unlink(missing_ok=True)
    with pytest.raises(FileNotFoundError, match=f"{missing.name}'? does not exist.*python -m agents.fit"):
        checkpoint.load(folder if name else missing)


def test_a_misspelt_name_lists_what_is_accepted():
    names = ", ".join(map(repr, checkpoint.SHIPPED))
    accepted = f"{names}, a folder written by `python -m agents.fit`, or hf://user/name"
    with pytest.raises(FileNotFoundError, match=f"world_model='unlabeled' does not exist; accepted: {accepted}"):
        checkpoint.load("unlabeled")


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
    assert isinstance(model, HasMetric) and isinstance(model, HasSuccess) and isinstance(model, HasWords)
    assert model.spec.name == "NicoLReal-v0" and model.spec.horizon == 24 and model.spec.pictures == ("pixels",)
    assert (model.noise_dim, model.observed, model.embedding_dim) == (1, ("proprio",), 1024)
    state = encoded(model, x)
    assert {name: tuple(part.shape) for name, part in state.items()} == {
        "tokens": (3, 64, 16),
        "proprio": (3, 4),
        "object_state": (3, 24),
        "instruction": (3, 64),
    }
    after, told = model.step(state, x["action"])
    assert after.keys() == state.keys() and torch.equal(after["instruction"], x["instruction"])
    torch.testing.assert_close(told.success, model.success(after))
    assert ((told.success > 0) & (told.success < 1)).all()
    assert told.disagreement.shape == (3,) and told.reward is None and told.terminated is None
    assert model.metric(after).shape == (3, 64) and model.embedding(after).shape == (3, 1024)
    drawn, _ = model.step(state, x["action"], x["noise"], temperature=0.5)
    assert not torch.equal(drawn["object_state"], after["object_state"])
    assert {name: (tuple(part.shape), part.dtype) for name, part in model.decode(after).items()} == {
        "pixels": ((3, 64, 64, 3), torch.uint8),
        "proprio": ((3, 4), torch.float32),
    }


def test_a_goal_needs_pictures_alone_and_success_a_sentence():
    model, x = randomized(SMALL), inputs(3)
    goal = model.encode({"pixels": x["pixels"]})
    assert not goal["proprio"].any() and model.step(goal, x["action"])[1].success is None
    with pytest.raises(ValueError, match="state has .*accepted: .*'instruction'"):
        model.success(goal)


def test_object_state_is_what_success_and_metric_go_by():
    model, x = randomized(SMALL), inputs(3)
    state = encoded(model, x)
    torch.testing.assert_close(state["object_state"], model.state_estimator(state["tokens"]))
    later = state | {"object_state": state["object_state"] + 1}
    assert not model.metric(later).allclose(model.metric(state))
    assert not model.success(later).allclose(model.success(state))
