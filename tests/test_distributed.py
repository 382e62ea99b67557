"""One fit by two processes on this machine: the same curves as by one, and one that writes."""

import os
import subprocess
import sys
import time
from pathlib import Path

import fit_process
import pytest
import test_fit
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from dream_env.agents.fit import distributed
from dream_env.agents.fit.state_grounded import dynamics, joint
from dream_env.agents.fit.state_grounded import stages as fit_stages
from dream_env.agents.fit.state_grounded.command import split
from dream_env.agents.fit.state_grounded.hindsight import Hindsight
from dream_env.agents.fit.state_grounded.pairs import Pairs, own_steps
from dream_env.agents.nicol.encoded_dataset import encode_episodes
from dream_env.nicol.world_model.model import StateGroundedModel
from dream_env.world_models import checkpoint


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Folders of the same fits by one process, and by each of two."""
    out = tmp_path_factory.mktemp("fits")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += [fit_process.__file__, str(out)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as two:
        fit_process.fits(out / "alone")
        output = two.communicate()[0]
    assert two.returncode == 0, output
    return [out / name for name in ("alone", "rank0", "rank1")]


def curves(folder: Path) -> dict[str, dict[int, float]]:
    """The losses of each stage by update; a run that died writes those since its last save once more."""
    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    names = [name for name in events.Tags()["scalars"] if name.endswith("/loss")]
    return {name: {event.step: event.value for event in events.Scalars(name)} for name in names}


@pytest.mark.parametrize("name", ["stages", "joint", "killed"])
def test_two_processes_have_the_curves_of_one(folders, name):
    one, two = (curves(folder / name) for folder in folders[:2])
    assert one and one.keys() == two.keys()
    for stage, losses in one.items():
        assert two[stage] == pytest.approx(losses, rel=1e-3), stage


def test_statistics_are_those_of_all_rows(folders):
    # Of the variance only: the mean holds a bias that no loss feels, and that drifts with the gradient's rounding.
    one, two = (checkpoint.load(folder / "stages").autoencoder.normalize.running_var for folder in folders[:2])
    assert torch.allclose(one, two, rtol=1e-3)


def test_only_the_first_process_writes(folders):
    _, first, second = folders
    assert (first / "stages" / "metrics.json").exists()
    assert not second.exists()


def test_minutes_end_on_all_processes(folders):
    state = torch.load(folders[1] / "minutes" / "last" / "training.pt", weights_only=True)
    assert state["done"] == ["autoencoder", "arm_renderer", "object_dynamics", "predictor"]


def test_alone_nothing_is_shared():
    rows, generator = torch.arange(7.0), torch.Generator().manual_seed(0)
    assert distributed.share(rows)[0].tolist() == rows.tolist()
    drawn = distributed.draw((7,), generator)
    assert drawn.equal(torch.randn(7, generator=generator.manual_seed(0)))
    assert distributed.total(2.5) == 2.5
    assert distributed.gather(rows) is distributed.average(rows) is rows
    layer = nn.Linear(1, 1)
    layer(rows[:, None]).sum().backward()
    distributed.join(layer)
    distributed.average_gradients(layer.parameters())
    assert layer.weight.grad.item() == 21


def test_rows_that_do_not_go_round_are_left_out(monkeypatch):
    monkeypatch.setattr(distributed, "world", lambda: 3)
    monkeypatch.setattr(distributed, "rank", lambda: 1)
    rows = torch.arange(8)
    assert distributed.share(rows, 10 * rows)[1].tolist() == [10, 40]
    drawn = distributed.draw((2, 2), torch.Generator().manual_seed(0))
    assert drawn.equal(torch.randn(6, 2, generator=torch.Generator().manual_seed(0))[[1, 4]])
    with pytest.raises(ValueError, match="batch of 2 rows for 3 processes; accepted: a row for each"):
        distributed.share(rows[:2])


def test_every_stage_learns_on_the_device_of_its_model(tmp_path):
    """No GPU here: "meta" has no numbers, but devices that do not go together do not go together there either."""
    data, args = test_fit.toy(10), test_fit.arguments(tmp_path / "fit", device="meta", objective="both")
    rows, held = split(args, data)
    model, hindsight = StateGroundedModel(args.model), Hindsight(data)
    train, held_out = encode_episodes(model, data, rows), encode_episodes(model, data, held)
    pairs, steps = Pairs(data, rows, hindsight.conditions), own_steps(data, held)
    dreams, seen = fit_stages.dream(model, train, len(rows)), fit_stages.estimate(model.state_estimator, train.tokens)
    states = fit_stages.States(train, seen, dreams, held_out)
    stages = [
        fit_stages.autoencoder_stage(args, model, data, rows, held),
        joint.joint_stage(args, model, data, rows, held),
        fit_stages.state_estimator_stage(args, model.state_estimator, train, held_out),
        dynamics.arm_renderer_stage(args, model.predictor.arm_renderer, train, held_out),
        dynamics.object_dynamics_stage(args, model, train, seen, held_out),
        dynamics.predictor_stage(args, model, train, held_out, data.images[0]),
        fit_stages.success_stage(args, model, states, hindsight, rows),
        fit_stages.metric_stage(args, model, states, pairs, steps, data.task[held.numpy()]),
    ]
    model.to("meta").train()
    for stage in stages:
        loss = stage.loss(torch.Generator().manual_seed(0), 0.6)
        loss.backward()
        assert loss.device.type == "meta", stage.name


@pytest.mark.parametrize("momentum", [0.1, None])
def test_batch_normalization_is_that_of_torch(momentum):
    torch.manual_seed(0)
    plain = nn.BatchNorm2d(3, momentum=momentum)
    nn.init.normal_(plain.weight)
    own = distributed._BatchNorm2d.of(nn.BatchNorm2d(3, momentum=momentum))
    own.load_state_dict(plain.state_dict())
    gradients = []
    for layer in (plain, own):
        batch = (5 + torch.randn(4, 3, 2, 2, generator=torch.Generator().manual_seed(0))).requires_grad_()
        for _ in range(3):
            layer(batch).square()[0].sum().backward()
        gradients.append(batch.grad)
        layer.eval()
    assert torch.allclose(*gradients, atol=1e-5)
    for name, value in plain.state_dict().items():
        assert torch.allclose(own.state_dict()[name].float(), value.float(), atol=1e-5), name


def note(folder):
    with distributed.processes() as first:
        (folder / str(distributed.rank())).write_text(f"{distributed.world()} {first}")


def test_launched_processes_work_together(tmp_path):
    distributed.launch(note, 2, tmp_path)
    found = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert found == {"0": "2 True", "1": "2 False"}


@pytest.mark.parametrize("seconds", [1.5, 5])
def test_workers_end_with_their_parent(tmp_path, seconds):
    code = (
        "import sys, time\nfrom dream_env.agents.fit import distributed\n"
        "if __name__ == '__main__':\n    distributed.launch(time.sleep, 2, 120)"
    )
    (script := tmp_path / "launch_and_wait.py").write_text(code)
    parent = subprocess.Popen([sys.executable, script], stderr=subprocess.DEVNULL, start_new_session=True)
    time.sleep(seconds)
    parent.kill()
    parent.wait()

    def left():
        processes = (Path(f"/proc/{pid}") for pid in os.listdir("/proc") if pid.isdigit())
        return [one for one in processes if _session(one) == parent.pid]

    deadline = time.monotonic() + 30
    while left() and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not left()


def _session(process):
    try:
        state, _, _, session = (process / "stat").read_text().rpartition(")")[2].split()[:4]
        return None if state == "Z" else int(session)
    except OSError:
        return None


def test_more_workers_than_a_machine_can_run_are_refused():
    with pytest.raises(ValueError, match="processes=9999; accepted: 1 to"):
        distributed.launch(print, 9999)
