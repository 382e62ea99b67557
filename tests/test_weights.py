"""Checkpoints of others: sizes bounded before they are built, shapes and numbers checked."""

import json
import os
import shutil
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from dream_env.agents.nicol import vla
from dream_env.world_models import checkpoint
from dream_env.world_models.precision import check_device, insulated, standard
from dream_env.world_models.weights import fill

ASSETS = Path(__file__).parents[1] / "assets"
LOADERS = {"state_grounded": checkpoint.load, "policy_state_grounded": vla.load}


@pytest.fixture(params=LOADERS)
def loaded(request: pytest.FixtureRequest, tmp_path: Path):
    """What loads a kind of checkpoint, and a copy of the one that is shipped."""
    folder = tmp_path / request.param
    folder.mkdir()
    for name in ("config.json", "model.safetensors", "spec.json"):
        if (ASSETS / request.param / name).exists():
            shutil.copy(ASSETS / request.param / name, folder)
    return LOADERS[request.param], folder


def change(folder: Path, **values: object) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


BAD = [{"channels": value} for value in (10**6, 10**12, 0, -3, "abc", None, float("nan"))]
BAD += [{"grid": 10**6}, {"grid": 10**5}]


@pytest.mark.parametrize("values", BAD)
def test_a_small_config_takes_neither_memory_nor_minutes(loaded, values: dict) -> None:
    load, folder = loaded
    change(folder, **values)
    start = time.process_time()
    with pytest.raises(ValueError, match=r"config\.json"):
        load(folder)
    assert time.process_time() - start < 3


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"channels": "16"}, "channels='16'; accepted: int"),
        ({"ensemble": [3]}, "ensemble=(3,); accepted: int"),
        ({"autoencoder_widths": [8, "8", 8]}, "autoencoder_widths=(8, '8', 8); accepted: tuple[int, int, int]"),
        ({"cube_heatmaps": 1}, "cube_heatmaps=1; accepted: bool"),
        ({"disagreement_threshold": "high"}, "disagreement_threshold='high'; accepted: float | None"),
    ],
)
def test_a_value_of_another_type_is_named_with_what_is_accepted(tmp_path: Path, values: dict, said: str) -> None:
    for name in ("config.json", "model.safetensors"):
        shutil.copy(ASSETS / "state_grounded" / name, tmp_path)
    change(tmp_path, **values)
    with pytest.raises(ValueError) as error:
        checkpoint.load(tmp_path)
    assert f"{tmp_path / 'config.json'} describes no model ({said})" in str(error.value)


@pytest.mark.parametrize("values", [{"futures": 10**6}, {"blocks": 10**6}, {"ensemble": 10**6}, {"width": 10**6}])
def test_nor_does_that_of_a_world_model(tmp_path: Path, values: dict) -> None:
    for name in ("config.json", "model.safetensors"):
        shutil.copy(ASSETS / "state_grounded" / name, tmp_path)
    change(tmp_path, **values)
    start = time.process_time()
    with pytest.raises(ValueError, match=r"config\.json"):
        checkpoint.load(tmp_path)
    assert time.process_time() - start < 5


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused(loaded, value: float) -> None:
    load, folder = loaded
    tensors = load_file(folder / "model.safetensors")
    name = next(name for name, tensor in tensors.items() if tensor.is_floating_point() and tensor.numel())
    tensors[name].view(-1)[0] = value
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(ValueError, match=rf"model\.safetensors holds NaN or infinity in {name}"):
        load(folder)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_folder_in_the_place_of_a_file_is_named(loaded, name: str) -> None:
    load, folder = loaded
    (folder / name).unlink()
    (folder / name).mkdir()
    with pytest.raises((ValueError, FileNotFoundError), match=name.replace(".", r"\.")) as caught:
        load(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("size", [0, 5, 1000])
def test_truncated_weights_are_named(loaded, size: int) -> None:
    load, folder = loaded
    os.truncate(folder / "model.safetensors", size)
    with pytest.raises(ValueError, match=r"model\.safetensors"):
        load(folder)


def test_a_read_only_folder_is_loaded(loaded) -> None:
    load, folder = loaded
    folder.chmod(0o555)
    try:
        load(folder)
    finally:
        folder.chmod(0o755)


def double():
    torch.set_default_dtype(torch.float64)


def halved():
    torch.autocast("cpu", torch.bfloat16).__enter__()


def meta():
    torch.set_default_device("meta")


def no_gradients():
    torch.set_grad_enabled(False)


def inference():
    torch.inference_mode().__enter__()


@pytest.fixture(params=[double, halved, meta, no_gradients, inference], ids=lambda setting: setting.__name__)
def setting(request: pytest.FixtureRequest):
    """A process-wide setting of torch; undone afterwards."""
    if request.param is halved:
        with torch.autocast("cpu", torch.bfloat16):
            yield
    elif request.param is inference:
        with torch.inference_mode():
            yield
    else:
        request.param()
        yield
        torch.set_default_dtype(torch.float32)
        torch.set_default_device(None)
        torch.set_grad_enabled(True)


def test_settings_of_torch_change_no_weight(loaded, setting) -> None:
    load, folder = loaded
    model = load(folder)
    weights = load_file(folder / "model.safetensors")
    for name, value in model.state_dict().items():
        assert value.dtype == weights[name].dtype and value.device.type == "cpu" and not value.is_inference()
        assert torch.equal(value, weights[name])


def test_insulated_functions_compute_the_same_and_leave_settings_alone(setting) -> None:
    before = torch.get_default_dtype(), torch.is_autocast_enabled("cpu"), torch.get_default_device()

    @insulated
    def compute() -> torch.Tensor:
        x = torch.linspace(0, 1, 50).view(5, 10)
        return x @ x.T

    result = compute()
    assert result.dtype == torch.float32 and result.device.type == "cpu"
    assert (torch.get_default_dtype(), torch.is_autocast_enabled("cpu"), torch.get_default_device()) == before
    with pytest.raises(KeyError), standard():
        raise KeyError
    assert torch.get_default_dtype() == before[0]


def test_loading_draws_no_random_numbers(loaded) -> None:
    load, folder = loaded
    torch.manual_seed(0)
    first = torch.rand(3)
    torch.manual_seed(0)
    load(folder)
    assert torch.equal(torch.rand(3), first)


@pytest.mark.parametrize("device", ["gpu", "cuda:99", "meta", "mps", "", None, 3.5, "cuda"])
def test_a_device_is_one_of_this_machine(device: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="device=.*accepted"):
        check_device(device)  # type: ignore[arg-type]
    assert check_device("cpu") == torch.device("cpu")


def test_only_beginnings_of_names_are_renamed(tmp_path: Path) -> None:
    made = torch.nn.ModuleDict({"new": torch.nn.ModuleDict({"old": torch.nn.Linear(2, 2)})})
    save_file({"old.old.weight": torch.ones(2, 2), "old.old.bias": torch.ones(2)}, tmp_path / "weights")
    found = fill(lambda: made, tmp_path / "weights", "model", "", {"old.": "new."})
    assert float(found.state_dict()["new.old.weight"].sum()) == 4
