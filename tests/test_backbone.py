"""Pretrained backbones: small random models of the real classes, from files to a policy that acts."""

import json
import socket
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from recorded import recorded

from dream_env.agents.clone import vla_clone as clone
from dream_env.agents.fit.state_grounded import command as fit
from dream_env.agents.nicol import model_metrics
from dream_env.agents.nicol import vla as policy
from dream_env.language import embed
from dream_env.nicol.dream import NicoLDreamEnv
from dream_env.nicol.initial_states import of_pictures
from dream_env.nicol.language import COLORS
from dream_env.nicol.tasks import STANDARD, TASKS
from dream_env.nicol.world_model.model import StateGroundedConfig, StateGroundedModel
from dream_env.world_models import checkpoint
from dream_env.world_models.backbone import VisionLanguageBackbone

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
SMALL = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
LAYERS = {**SMALL, "intermediate_size": 32}
TINY = StateGroundedConfig(metric_dim=8, autoencoder_widths=(8, 8, 8), width=16, blocks=1, head_width=8)


@pytest.fixture(scope="module")
def transformers():
    import transformers

    return transformers


@pytest.fixture(scope="module")
def words(transformers):
    """A tokenizer that knows the words of the grammars."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    sentences = [s for task in STANDARD for c in COLORS for s in TASKS[task].grammar.sentences(c, "test")]
    vocabulary = dict.fromkeys(["[PAD]", "[UNK]", *sorted(" ".join(sentences).split())])
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(vocabulary)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]")


@pytest.fixture(scope="module")
def folders(transformers, words, tmp_path_factory):
    """Checkpoints as they lie on a disk: models, processors in the layouts of several versions, a tokenizer."""
    torch.manual_seed(0)
    t, root = transformers, tmp_path_factory.mktemp("pretrained")
    text = {"vocab_size": len(words), "max_position_embeddings": 32, "pad_token_id": 0}
    square = {"image_size": 64, "patch_size": 8, **LAYERS}
    predictor = {f"pred_{name}": value for name, value in SMALL.items()}
    made = {
        "vjepa2": t.VJEPA2Model(t.VJEPA2Config(crop_size=64, patch_size=8, mlp_ratio=2, **SMALL, **predictor)),
        "dinov2": t.Dinov2Model(t.Dinov2Config(image_size=70, patch_size=14, **SMALL)),
        "siglip": t.SiglipModel(t.SiglipConfig(text_config={**text, **LAYERS}, vision_config=square)),
        "siglip_vision": t.SiglipVisionModel(t.SiglipVisionConfig(**square)),
        "bert": t.BertModel(t.BertConfig(**text, **LAYERS)),
    }
    half = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "size": {"height": 64, "width": 64}}
    cropped = {"image_mean": MEAN, "image_std": STD, "size": {"shortest_edge": 64}}
    processors = {
        "vjepa2": ("video_preprocessor_config.json", cropped | {"crop_size": 64}),
        "dinov2": ("preprocessor_config.json", cropped | {"crop_size": {"height": 42, "width": 42}}),
        "siglip": ("processor_config.json", {"image_processor": half}),
        "siglip_vision": ("preprocessor_config.json", half),
    }
    for name, model in made.items():
        for parameter in model.parameters():
            parameter.data.normal_(0, 0.2)
        model.save_pretrained(root / name)
    for name, (file, values) in processors.items():
        (root / name / file).write_text(json.dumps(values))
    for name in ("bert", "siglip"):
        words.save_pretrained(root / name)
    return {name: str(root / name) for name in made}


@pytest.fixture(scope="module")
def images():
    return torch.from_numpy(recorded(1).images[0, :5])


@pytest.mark.parametrize(
    "name, side, first", [("vjepa2", 8, 0), ("dinov2", 3, 1), ("siglip", 8, 0), ("siglip_vision", 8, 0)]
)
def test_patches_are_those_of_the_model_itself(transformers, folders, images, name, side, first):
    found = VisionLanguageBackbone(vision=folders[name], device="cpu").patches(images)
    assert found.shape == (5, 32, side, side) and found.dtype == torch.float32 and not found.requires_grad
    model = transformers.AutoModel.from_pretrained(folders[name]).eval()
    pixels = images.permute(0, 3, 1, 2) / 255
    if name == "dinov2":
        pixels = torch.nn.functional.interpolate(pixels, (42, 42), mode="bicubic", antialias=True).clamp(0, 1)
    mean, std = ([0.5] * 3, [0.5] * 3) if "siglip" in name else (MEAN, STD)
    pixels = (pixels - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    with torch.no_grad():
        if name == "vjepa2":
            tokens = model.get_vision_features(torch.stack([pixels, pixels], dim=1))
        else:
            tokens = getattr(model, "vision_model", model)(pixel_values=pixels).last_hidden_state
    expected = tokens[:, first:].unflatten(1, (side, side))
    torch.testing.assert_close(found.permute(0, 2, 3, 1), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["bert", "siglip"])
def test_sentences_are_the_mean_over_their_tokens(transformers, words, folders, name):
    found = VisionLanguageBackbone(text=folders[name], device="cpu").sentence("push the ruby brick")
    model = transformers.AutoModel.from_pretrained(folders[name]).eval()
    with torch.no_grad():
        ids = torch.tensor([words("push the ruby brick")["input_ids"]])
        features = getattr(model, "text_model", model)(input_ids=ids).last_hidden_state
    assert ids.shape == (1, 4)
    torch.testing.assert_close(found, features[0].mean(0), rtol=1e-4, atol=1e-4)


def arguments(folder, vision, text=None):
    return fit.Arguments(
        data=(folder / "data",),
        out=folder / "model",
        autoencoder_updates=4,
        state_estimator_updates=2,
        arm_renderer_updates=2,
        object_dynamics_updates=2,
        predictor_updates=2,
        painter_updates=0,
        success_updates=2,
        metric_updates=2,
        autoencoder_batch=8,
        predictor_batch=16,
        horizons=(2,),
        held_out=0.2,
        probe_updates=2,
        threads=1,
        bfloat16=False,
        model=replace(TINY, vision=vision, text=text),
    )


@pytest.mark.parametrize("name", ["vjepa2", "dinov2", "siglip"])
def test_tokens_are_few_normal_and_told_apart(folders, images, name):
    model = StateGroundedModel(replace(TINY, vision=folders[name]))
    some = torch.from_numpy(recorded(8).images[:, ::4]).flatten(0, 1)
    model.autoencoder.prepare(some)
    model.autoencoder.normalize.momentum = None
    tokens = model.autoencoder.encode(some)
    assert tokens.shape == (len(some), 64, 16)
    torch.testing.assert_close(tokens.flatten(0, 1).var(0), torch.ones(16), rtol=0.05, atol=0.05)
    products = tokens.flatten(0, 1).T @ tokens.flatten(0, 1) / tokens[..., 0].numel()
    assert (products - torch.eye(16)).abs().max() < 0.05  # principal components are uncorrelated
    model.eval()
    one, other = model.encode({"pixels": images[:2]})["tokens"]
    assert (one - other).abs().max() > 0.05
    alone = model.encode({"pixels": images[:1]})["tokens"][0]
    torch.testing.assert_close(alone, one, rtol=1e-3, atol=1e-3)


def test_the_whole_pipeline(folders, tmp_path, monkeypatch):
    monkeypatch.setattr(model_metrics, "steps_per_second", lambda model, batch: 1000.0)
    data = recorded(12)
    args = arguments(tmp_path, folders["vjepa2"], folders["bert"])
    figures = fit.fit(args, data)
    assert figures["episodes"] == {"train": 10, "held_out": 2}
    starts = of_pictures(data.images[:, 0], data.proprio[:, 0], data.goal_image, data.task, data.instruction)
    starts.save(args.out / "initial_states.npz")

    model = checkpoint.load(args.out)
    names = set(model.state_dict())
    assert {"autoencoder.encoder.mean", "autoencoder.encoder.axes", "words.mean", "words.axes"} <= names
    assert not [name for name in names if "layer" in name or "backbone" in name]  # the pretrained weights stay away
    assert {n.split(".")[0] for n, _ in model.autoencoder.named_parameters()} == {"decoder"}
    assert model.config.vision == folders["vjepa2"]

    said = "push the crimson block away"
    told = model.instruction(said)
    assert told.shape == (64,) and told.dtype == np.float32 and np.abs(told).max() <= 1
    assert np.abs(told - model.instruction("push the azure block away")).max() > 0.05
    assert np.abs(told - embed(said)).max() > 0.1
    env = NicoLDreamEnv("all", world_model=str(args.out), obs_type="pixels")
    obs, _ = env.reset(seed=0, options={"instruction": said})
    np.testing.assert_array_equal(obs["instruction"], told)
    obs, *_ = env.step(env.action_space.sample())
    assert obs in env.observation_space and obs["embedding"].std() > 0.1
    again, _ = env.reset(options={"start": 3})
    np.testing.assert_array_equal(again["instruction"], model.instruction(str(data.instruction[3])))

    cloning = clone.Arguments((tmp_path,), tmp_path / "clone", demos=4, world_model=str(args.out), updates=3, batch=8)
    demonstrations = replace(data, kind=np.full(len(data), "demo")).take(np.arange(4))
    assert all(np.isfinite(value) for value in clone.run(cloning, demonstrations, model).values())
    vla = policy.load(cloning.out)
    image, proprio = data.images[0, 0], data.proprio[0, 0]
    obs, _ = env.reset(options={"image": image, "proprio": proprio, "instruction": said})
    np.testing.assert_allclose(vla.act_on({"pixels": image, "proprio": proprio}, said), vla.predict(obs)[0], atol=1e-4)

    # A second fit keeps eyes and words, by --init or by --autoencoder.
    kept = replace(args, autoencoder=args.out, out=tmp_path / "kept", initial_states=0)
    fit.fit(kept, data)
    vla.config.check_encoder(str(kept.out))
    stranger = StateGroundedModel(replace(TINY, vision=folders["siglip_vision"])).eval()
    checkpoint.save(stranger, tmp_path / "stranger", "")
    with pytest.raises(ValueError, match="its encoder"):
        vla.config.check_encoder(str(tmp_path / "stranger"))


def test_words_of_the_same_meaning_are_projected_alike(folders):
    model = StateGroundedModel(replace(TINY, text=folders["siglip"]))
    model.words.fit(TASKS["lift"].grammar.sentences("red") + TASKS["push"].grammar.sentences("blue"))
    told = [model.instruction(s) for s in ("lift the red cube", "lift the reddish cube", "shove the blue box forward")]
    assert told[0] @ told[1] > told[0] @ told[2]
    assert model.autoencoder.encoder[0].weight.requires_grad  # the eyes are learned as ever


def test_what_is_missing_is_named(folders, tmp_path, monkeypatch):
    def refuse(*_):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    for name in (str(tmp_path / "nowhere"), "facebook/no-such-encoder"):
        with pytest.raises(FileNotFoundError, match=f"vision='{name}' does not exist; accepted: a folder"):
            VisionLanguageBackbone(vision=name)
    with pytest.raises(ValueError, match="text='.*dinov2' is 'dinov2' without vocab_size"):
        VisionLanguageBackbone(text=folders["dinov2"])
    with pytest.raises(ValueError, match="vision='.*bert' is 'bert' without patch_size"):
        StateGroundedModel(replace(TINY, vision=folders["bert"]))
    with pytest.raises(ValueError, match="channels=33; accepted: at most 32"):
        StateGroundedModel(replace(TINY, vision=folders["dinov2"], channels=33))
    with pytest.raises(ValueError, match="text=None"):
        VisionLanguageBackbone(vision=folders["dinov2"]).sentence("lift the red cube")


def test_a_checkpoint_without_processor_or_whole_weights_is_refused(transformers, tmp_path, images):
    model = transformers.Dinov2Model(transformers.Dinov2Config(image_size=70, patch_size=14, **SMALL))
    model.save_pretrained(tmp_path / "bare")
    with pytest.raises(FileNotFoundError, match="bare' has no processor_config.json or .*accepted: a checkpoint"):
        VisionLanguageBackbone(vision=str(tmp_path / "bare")).patches(images)
    values = {"image_mean": MEAN, "image_std": STD, "size": 70}
    (tmp_path / "bare" / "preprocessor_config.json").write_text(json.dumps(values))
    weights = tmp_path / "bare" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(ValueError, match="bare' cannot be read"):
        VisionLanguageBackbone(vision=str(tmp_path / "bare")).patches(images)


def test_without_transformers_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ImportError, match=r"dream_env\[vla\]"):
        StateGroundedModel(replace(TINY, vision="some/encoder"))
    assert StateGroundedModel(TINY).instruction("lift the red cube").shape == (64,)
