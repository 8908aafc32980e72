import json
import logging
import shutil
import subprocess

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vision_jax.training.checkpoints import Checkpoints, TrainingProgress, _hashes
from vision_jax.training.parallel import local_devices, replicate
from vision_jax.training.predict import load_variables
from vision_jax.types import UserError


def tree(step, size=64):
    """Variables and optimizer arrays that no other step has."""
    random = np.random.default_rng(step)
    variables = {
        "params": {"conv": {"kernel": random.normal(size=(size, size)).astype(np.float32)}},
        "batch_stats": {"mean": random.normal(size=3).astype(np.float32), "count": np.int32(step)},
    }
    return variables, {"step": np.int32(step), "trace": [random.normal(size=size).astype(np.float32)]}


def save(checkpoints, step, size=64, **progress):
    checkpoints.save(*tree(step, size), TrainingProgress(step=step, **progress))


def assert_same(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert np.asarray(x).dtype == np.asarray(y).dtype
        assert np.asarray(x).tobytes() == np.asarray(y).tobytes()


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A folder with the checkpoints of steps 3, 10 and 20, of which 3 is the best."""
    folder = tmp_path_factory.mktemp("saved") / "checkpoints"
    checkpoints = Checkpoints(folder)
    for step in (3, 5, 10, 20):
        save(checkpoints, step, best=0.5, best_step=3)
    return folder


@pytest.fixture
def folder(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "checkpoints")


def test_what_is_restored_is_what_was_saved(tmp_path):
    progress = TrainingProgress(
        step=7, stage=1, stage_name="train", stage_step=4, evaluated=6, best=1 / 3, best_step=6, rows=5,
        sums={"": {"count": 3.0, "sum/loss": 0.1 + 0.2}}, iterator={"position": 12, "order": [1, 2]},
    )  # fmt: skip
    variables, optimizer = tree(7)
    on_devices = replicate((variables, optimizer), local_devices(4))
    Checkpoints(tmp_path / "c").save(*on_devices, progress)
    other = Checkpoints(tmp_path / "c")
    assert other.newest() == progress
    assert_same(other.restore_variables(7), variables)
    like = {"step": jnp.int32(0), "trace": [jax.ShapeDtypeStruct((64,), np.float32)]}
    assert_same(other.restore_optimizer(7, like), optimizer)
    with pytest.raises(UserError, match="another optimizer"):
        other.restore_optimizer(7, {"step": jnp.int32(0), "mu": [jnp.zeros(64)]})


@pytest.mark.parametrize("position", [b"\x00\xffgrain", {"a": np.int64(3), "b": np.arange(2)}, None])
def test_a_data_iterators_position_survives(tmp_path, position):
    save(Checkpoints(tmp_path), 1, iterator=position)
    expected = {"a": 3, "b": [0, 1]} if isinstance(position, dict) else position
    assert Checkpoints(tmp_path).newest().iterator == expected


def test_the_last_two_and_the_best_are_kept(saved):
    assert Checkpoints(saved).steps() == [3, 10, 20]
    assert Checkpoints(saved).best().step == 3
    assert_same(Checkpoints(saved).restore_variables(3), tree(3)[0])


def test_no_folder_is_no_checkpoint(tmp_path):
    assert Checkpoints(tmp_path / "none").newest() is None
    assert Checkpoints(tmp_path / "none").best() is None


def truncate(folder):
    largest = max((p for p in folder.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
    largest.write_bytes(largest.read_bytes()[:-1])


def flip_a_bit(folder):
    largest = max((p for p in folder.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
    data = bytearray(largest.read_bytes())
    data[len(data) // 2] ^= 1
    largest.write_bytes(bytes(data))


def delete_a_file(folder):
    sorted((folder / "optimizer" / "d").iterdir())[0].unlink()


def delete_the_record(folder):
    (folder / "record.json").unlink()


def cut_the_record(folder):
    text = (folder / "record.json").read_text()
    (folder / "record.json").write_text(text[: len(text) // 2])


def change_a_number_in_the_record(folder):
    record = json.loads((folder / "record.json").read_text())
    record["progress"]["rows"] += 1
    (folder / "record.json").write_text(json.dumps(record))


def empty(folder):
    shutil.rmtree(folder)
    folder.mkdir()


CORRUPTIONS = [
    *(truncate, flip_a_bit, delete_a_file, empty),
    *(delete_the_record, cut_the_record, change_a_number_in_the_record),
]


@pytest.mark.parametrize("corrupt", CORRUPTIONS)
def test_a_damaged_newest_checkpoint_is_passed_over_with_a_warning(folder, corrupt, caplog):
    corrupt(folder / "20")
    with caplog.at_level(logging.WARNING, "vision_jax"):
        found = Checkpoints(folder).newest()
    assert found.step == 10
    assert_same(Checkpoints(folder).restore_variables(10), tree(10)[0])
    assert [r.levelname for r in caplog.records] == ["WARNING"]
    assert str(folder / "20") in caplog.text


def test_a_damaged_best_checkpoint_gives_way_to_the_last(folder, caplog):
    flip_a_bit(folder / "3")
    with caplog.at_level(logging.WARNING, "vision_jax"):
        assert Checkpoints(folder).best().step == 20
    assert "best" in caplog.text


def test_when_none_is_sound_the_run_says_so_and_keeps_them(folder):
    for step in (3, 10, 20):
        truncate(folder / str(step))
    with pytest.raises(UserError, match=r"no checkpoint .* is sound"):
        Checkpoints(folder).newest()
    assert Checkpoints(folder).steps() == [3, 10, 20]


def test_continuing_removes_what_comes_after_and_what_a_kill_left(folder):
    (folder / "30.orbax-checkpoint-tmp" / "variables").mkdir(parents=True)
    flip_a_bit(folder / "20")
    checkpoints = Checkpoints(folder)
    found = checkpoints.newest()
    checkpoints.discard_after(found.step)
    assert sorted(p.name for p in folder.iterdir()) == ["10", "3"]
    save(checkpoints, 20, best=0.5, best_step=3)
    assert checkpoints.newest().step == 20


def test_an_evaluations_outcome_joins_its_checkpoint(folder):
    checkpoints = Checkpoints(folder)
    checkpoints.amend(TrainingProgress(step=20, evaluated=20, best=0.75, best_step=20, rows=9))
    again = Checkpoints(folder).newest()
    assert (again.step, again.evaluated, again.best, again.rows) == (20, 20, 0.75, 9)
    assert Checkpoints(folder).best().step == 20


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 1 MiB of our own; needs the right to mount."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("needs the right to mount a tmpfs")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_leaves_the_checkpoint_before(small_disk):
    checkpoints = Checkpoints(small_disk / "checkpoints")
    save(checkpoints, 1, size=256)
    (small_disk / "other").write_bytes(bytes(400_000))
    with pytest.raises(UserError, match=r"step 2.*No space left on device; checkpoint 1 is intact.*--resume"):
        save(checkpoints, 2, size=256)
    assert [p.name for p in (small_disk / "checkpoints").iterdir()] == ["1"]
    assert Checkpoints(small_disk / "checkpoints").newest().step == 1
    assert_same(Checkpoints(small_disk / "checkpoints").restore_variables(1), tree(1, 256)[0])
    (small_disk / "other").unlink()
    save(checkpoints, 2, size=256)
    assert checkpoints.newest().step == 2


def test_a_read_only_disk_is_named(small_disk):
    save(Checkpoints(small_disk / "checkpoints"), 1)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(UserError, match=r"Read-only file system; checkpoint 1 is intact"):
        save(Checkpoints(small_disk / "checkpoints"), 2)
    assert Checkpoints(small_disk / "checkpoints").newest().step == 1


LIKE = {"step": jnp.int32(0), "trace": [jax.ShapeDtypeStruct((64,), np.float32)]}
FOREIGN = [
    ".DS_Store",
    "._record.json",
    "Thumbs.db",
    "desktop.ini",
    ".nfs000000000012a",
    "3.tmp",
    "notes.txt",
]


def add_foreign_files(root):
    """What a Mac, Windows, a network drive, Jupyter and a person leave, in every folder."""
    for folder in [root, *(path for path in root.rglob("*") if path.is_dir())]:
        for name in FOREIGN:
            (folder / name).write_bytes(b"\0\5\26\7")
        for name in (".ipynb_checkpoints", "__MACOSX", "20 copy", "020"):
            (folder / name).mkdir()
            (folder / name / "data").write_bytes(b"x")


def test_foreign_files_do_not_matter(folder, caplog):
    add_foreign_files(folder)
    checkpoints = Checkpoints(folder)
    with caplog.at_level(logging.WARNING, "vision_jax"):
        assert checkpoints.newest().step == 20
        assert checkpoints.best().step == 3
    assert not caplog.records
    assert checkpoints.steps() == [3, 10, 20]
    assert_same(checkpoints.restore_variables(20), tree(20)[0])
    assert_same(checkpoints.restore_optimizer(20, LIKE), tree(20)[1])
    assert all((folder / name).exists() for name in FOREIGN)
    checkpoints.discard_after(10)
    save(checkpoints, 30, best=0.5, best_step=3)
    assert Checkpoints(folder).steps() == [3, 10, 30]
    assert all((folder / name).exists() for name in FOREIGN)  # not ours to delete
    flip_a_bit(folder / "30" / "variables")
    assert Checkpoints(folder).newest().step == 10


def test_foreign_files_are_not_recorded(folder):
    """What Finder writes while a checkpoint is saved may be gone later."""
    (folder / "20" / ".DS_Store").write_bytes(b"x")
    assert ".DS_Store" not in _hashes(folder / "20")
    assert "variables/_METADATA" in _hashes(folder / "20")


def remove_the_optimizer(folder):
    shutil.rmtree(folder / "optimizer")


def damage_the_optimizer(folder):
    flip_a_bit(folder / "optimizer")


def damage_what_orbax_notes(folder):
    (folder / "_CHECKPOINT_METADATA").write_text("{")
    (folder / "commit_success.txt").unlink()


@pytest.mark.parametrize("corrupt", [remove_the_optimizer, damage_the_optimizer, damage_what_orbax_notes])
def test_predictions_need_the_variables_alone(folder, corrupt, caplog):
    for step in (3, 10, 20):
        corrupt(folder / str(step))
    with caplog.at_level(logging.WARNING, "vision_jax"):
        for which, step in (("last", 20), ("best", 3)):
            assert_same(load_variables(folder.parent, which), tree(step)[0])
    assert not caplog.records
    name = "_CHECKPOINT_METADATA" if corrupt is damage_what_orbax_notes else "optimizer/"
    with pytest.raises(
        UserError, match=rf"sound; the run cannot be continued \(step 20: {name}.*--init {folder.parent}"
    ):
        Checkpoints(folder).newest()


def test_damaged_variables_are_named_and_another_checkpoint_serves(folder, caplog):
    flip_a_bit(folder / "20" / "variables")
    with caplog.at_level(logging.WARNING, "vision_jax"):
        assert_same(load_variables(folder.parent, "best"), tree(3)[0])
        assert not caplog.records  # the best one is as it was written
        assert_same(load_variables(folder.parent, "last"), tree(10)[0])
    assert "20 is passed over: variables/" in caplog.text
    shutil.rmtree(folder / "3")
    assert_same(load_variables(folder.parent, "best"), tree(10)[0])
    flip_a_bit(folder / "10" / "variables")
    with pytest.raises(
        UserError,
        match=r"(?s)no checkpoint .* is sound; its variables .*step 20: variables/.*step 10: variables/",
    ):
        load_variables(folder.parent, "last")
