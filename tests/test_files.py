"""Files are whole or not at all, with the modes of the umask; a folder is written by one process at a time."""

import errno
import io
import json
import os
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from dream_env.agents.run.cli import written_by_us
from dream_env.agents.run.config import check_out
from dream_env.files import LOCK, check_npz, locked, nan_to_none, replacing, write_json, write_text


@pytest.fixture(params=[0o022, 0o027, 0o077])
def umask(request):
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def test_files_have_the_mode_that_the_umask_says(tmp_path: Path, umask: int) -> None:
    with replacing(tmp_path / "model.safetensors") as part:
        save_file({"x": torch.zeros(2)}, part)
    write_text(tmp_path / "text.md", "text")
    with replacing(tmp_path / "x.npy") as part:
        np.save(part, np.zeros(2))
    assert {file.stat().st_mode & 0o777 for file in tmp_path.iterdir()} == {0o666 & ~umask}


def test_what_a_killed_writer_left_is_removed_by_the_next(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys\nfrom dream_env.files import replacing\n"
        "with replacing(sys.argv[1]) as part:\n    part.write_text('half')\n    os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", code, tmp_path / "last.pt"])
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    (tmp_path / f".{dead.pid}.last.pt").touch()  # as version 0.1.0 named them
    (tmp_path / f".{os.getpid()}.last.pt").touch()  # somebody is writing it
    assert len(list(tmp_path.iterdir())) == 3
    write_json(tmp_path / "last.pt", [1])
    assert {file.name for file in tmp_path.iterdir()} == {"last.pt", f".{os.getpid()}.last.pt"}
    assert json.loads((tmp_path / "last.pt").read_text()) == [1]


@pytest.mark.parametrize("words", ["unexpected pos 64 vs 0", "I/O error: No space left on device (os error 28)"])
def test_a_full_disk_is_called_so_whatever_library_wrote(tmp_path: Path, words: str) -> None:
    with pytest.raises(OSError, match="no space left on the disk.*x.pt") as caught, replacing(tmp_path / "x.pt"):
        raise RuntimeError(words)
    assert caught.value.errno == errno.ENOSPC
    with pytest.raises(RuntimeError, match="else"), replacing(tmp_path / "x.pt"):
        raise RuntimeError("something else")
    assert not list(tmp_path.iterdir())


def test_a_folder_is_written_by_one_process_which_the_other_is_told(tmp_path: Path) -> None:
    code = (
        "import sys, time\nfrom dream_env.files import locked\n"
        "with locked(sys.argv[1]):\n    print('ready', flush=True)\n    time.sleep(60)"
    )
    folder = tmp_path / "run"
    with subprocess.Popen([sys.executable, "-c", code, folder], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None and other.stdout.readline() == "ready\n"
        with pytest.raises(ValueError, match=rf"run is being written by process {other.pid} on .*; accepted"):
            with locked(folder):
                pass
        other.kill()
        other.wait()
    start = time.monotonic()
    with locked(folder):  # a killed process keeps nothing
        assert (folder / LOCK).exists()
    assert time.monotonic() - start < 1
    assert list(folder.iterdir()) == []


def test_a_lock_leaves_no_folder_behind_that_nothing_was_written_to(tmp_path: Path) -> None:
    with pytest.raises(KeyError), locked(tmp_path / "a" / "b"):
        raise KeyError
    assert not (tmp_path / "a" / "b").exists()
    with locked(tmp_path / "c"):
        write_text(tmp_path / "c" / "text", "x")
    assert [file.name for file in (tmp_path / "c").iterdir()] == ["text"]


@pytest.mark.parametrize(("out", "locks"), [("model", True), ("model_v1.5", True), ("a.json", False), ("a.txt", False)])
def test_a_command_locks_its_folder_whatever_that_is_called_and_no_file(tmp_path: Path, out: str, locks: bool) -> None:
    (tmp_path / "a.txt").touch()
    with written_by_us(SimpleNamespace(out=tmp_path / out)):
        assert (tmp_path / out / LOCK).is_file() == locks
    assert not (tmp_path / out).is_dir()


def test_results_go_into_no_data_set(tmp_path: Path) -> None:
    (tmp_path / "meta").mkdir()
    (tmp_path / "meta" / "info.json").write_text("{}")
    for kind in (None, "vla"):
        with pytest.raises(ValueError, match="holds a data set; accepted: a new folder"):
            check_out(tmp_path, kind)
    check_out(tmp_path, "episodes")


@pytest.mark.parametrize("text", ["", "[]", "null", '{"kind": 3}', '{"kind": null}'])
def test_a_damaged_config_is_not_written_over(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ValueError, match="holds a checkpoint of kind None; accepted"):
        check_out(tmp_path, "vla")


def test_headers_that_promise_more_than_a_file_holds_are_refused(tmp_path: Path) -> None:
    arrays = {"x": np.zeros((3, 4), np.uint8), "words": np.array(["a", "bc"]), "none": np.zeros((0, 5))}
    np.savez_compressed(tmp_path / "good.npz", **arrays)
    check_npz(tmp_path / "good.npz")
    huge = io.BytesIO()
    np.lib.format.write_array_header_1_0(huge, {"descr": "<f8", "fortran_order": False, "shape": (10**10, 2)})
    with zipfile.ZipFile(tmp_path / "huge.npz", "w") as archive:
        archive.writestr("x.npy", huge.getvalue() + bytes(64))
    np.savez(tmp_path / "objects.npz", x=np.array([{}], dtype=object))
    (tmp_path / "text.npz").write_text("no zip")
    for name in ("huge", "objects", "text"):
        with pytest.raises(ValueError, match=rf"{name}\.npz is damaged"):
            check_npz(tmp_path / f"{name}.npz")


def test_nan_is_null_in_json() -> None:
    figures = {"rows": [{"n": 3, "rate": float("nan")}], "both": (1.23456, True, "nan"), "none": None}
    assert nan_to_none(figures) == {"rows": [{"n": 3, "rate": None}], "both": [1.23456, True, "nan"], "none": None}
    assert nan_to_none(figures, digits=3)["both"][0] == 1.23
