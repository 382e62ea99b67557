"""The archive of the transfer experiment; that the experiment goes on from it: `test_experiment`."""

import tarfile

import pytest

from dream_env.agents.studies.transfer import policies as archive


@pytest.mark.parametrize("name", ["../made.json", "/made.json", "clone-1/policy/model.safetensors"])
def test_an_archive_that_is_none_is_refused(tmp_path, name):
    file = tmp_path / "runs.tar.xz"
    for content in (b"", b"no archive"):
        file.write_bytes(content)
        with pytest.raises(ValueError, match="runs.tar.xz is damaged, or not one of"):
            archive.unpack(file, tmp_path / "runs")
    with tarfile.open(file, "w:xz") as other:
        other.addfile(tarfile.TarInfo(name))
    with pytest.raises(ValueError, match=f"it holds .{name}"):
        archive.unpack(file, tmp_path / "runs")
    assert not (tmp_path / "runs").exists() and not (tmp_path / "made.json").exists()


def test_what_is_there_is_kept_and_the_rest_comes_back(tmp_path):
    policy = tmp_path / "runs" / "clone-1"
    for name in ("settings.json", "trials/normal.jsonl", "policy/model.safetensors"):
        (policy / name).parent.mkdir(parents=True, exist_ok=True)
        (policy / name).write_text(name)
    file = tmp_path / "kept" / "runs.tar.xz"
    archive.pack([policy], file)
    (tmp_path / "other" / "clone-1").mkdir(parents=True)
    (tmp_path / "other" / "clone-1" / "settings.json").write_text("newer")
    archive.unpack(file, tmp_path / "other")
    found = {path.name: path.read_text() for path in (tmp_path / "other").rglob("*") if path.is_file()}
    assert found == {"settings.json": "newer", "normal.jsonl": "trials/normal.jsonl"}
    assert [path.name for path in file.parent.iterdir()] == [file.name]
