"""Full disks, folders that can't be written or have moved, two servers at one bank: nothing finished is lost.

What SIGKILL and Cancel leave behind is measured on real servers: tests/slow/faults.py.
"""

import importlib
import json
import os
import resource
import select
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

if __name__ == "__main__":
    import conftest  # noqa: F401, it lets ComfyUI be imported

from demo_faces import folder_of
from models import sd15
from planted import direction
from test_sample_bank import sample_bank

from directions import load_direction, open_bank, save_direction

pytestmark = pytest.mark.comfy

MOUNT, UMOUNT = Path("/bin/mount"), Path("/bin/umount")


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Tiny models gain nothing from more, and threads wait for each other where other work runs too."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def record(pack):
    importlib.import_module(f"{pack.__name__}.nodes.host.paths").register_folders()
    return importlib.import_module(f"{pack.__name__}.nodes.host.bank_recording")


@pytest.fixture(scope="module")
def model():
    return sd15()


def files(folder: Path) -> list[Path]:
    """Hidden ones too, but for the lock that lies in every bank."""
    return [path for path in folder.rglob("*") if path.is_file() and path.name != ".lock"]


def stamps(folder: Path) -> dict[str, tuple[int, int]]:
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in files(folder)}


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in files(folder)}


@pytest.fixture(scope="module")
def undisturbed(record, model, tmp_path_factory):
    """The files of a bank of eight."""
    with folder_of("hspace_banks", tmp_path_factory.mktemp("undisturbed")) as folder:
        sample_bank(record, model, count=8)
        return contents(folder)


def mounted(*options: str | Path) -> None:
    if not MOUNT.exists() or subprocess.run([MOUNT, *options], capture_output=True).returncode:
        pytest.skip("mounting is not allowed here: run as root to test it with a real file system")


def limited_disk(folder: Path):
    """Every file over 4 kB is refused: needs no rights."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield SimpleNamespace(
        folder=folder,
        fill=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1])),
        free=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limits),
    )
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def small_disk(folder: Path):
    """A file system of 4 MB, which another file fills."""
    mounted("-t", "tmpfs", "-o", "size=4m", "tmpfs", folder)
    filler = folder / "filler"
    yield SimpleNamespace(folder=folder, fill=lambda: fill(filler), free=filler.unlink)
    subprocess.run([UMOUNT, folder], check=True)


def fill(filler: Path) -> None:
    with pytest.raises(OSError, match="No space left"), filler.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


@pytest.fixture(params=[limited_disk, small_disk], ids=["file size limit", "tmpfs"])
def disk(request, tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    yield from request.param(folder)


def after(calls: int, function, work):
    """`function`, which does `work()` before its call number `calls`."""
    done = []

    def called(*args, **words):
        done.append(1)
        if len(done) == calls:
            work()
        return function(*args, **words)

    return called


def test_a_disk_that_fills_during_a_capture(record, model, undisturbed, disk, monkeypatch):
    monkeypatch.setattr(record, "sample", after(3, record.sample, disk.fill))
    with folder_of("hspace_banks", disk.folder / "banks") as folder:
        with pytest.raises(ValueError, match="Could not write seed-.*Nothing was changed; free some disk space"):
            sample_bank(record, model, count=8)
        finished = stamps(folder)
        assert contents(folder).items() <= undisturbed.items() and len(finished) == 2
        disk.free()
        bank, *_ = sample_bank(record, model, count=8)
        assert contents(folder) == undisturbed and len(bank) == 8
        assert finished.items() <= stamps(folder).items()


def test_a_disk_that_fills_while_learning(faces, tmp_path, monkeypatch):
    from test_learn_direction import learn

    kind = SimpleNamespace(
        model=faces.model, vae=faces.vae, prompts=(faces.empty, faces.empty), latent=faces.latent,
        sigmas=faces.sigmas(2), cfg=1.0,
    )  # fmt: skip
    host = faces.module("nodes.host")
    objective = host.classifier_objective(host.load_classifier("demo attributes (built in)"), "smile", [])
    trainer = host.Trainer
    with folder_of("hspace_banks", tmp_path / "whole") as folder:
        whole = learn(faces, kind, objective, count=3)[0]
        states = contents(folder)
    with folder_of("hspace_banks", tmp_path / "filled") as folder, contextmanager(limited_disk)(folder) as disk:
        monkeypatch.setattr(trainer, "train_round", after(2, trainer.train_round, disk.fill))
        with pytest.raises(ValueError, match="Could not write learning.*free some disk space"):
            learn(faces, kind, objective, count=3)
        assert list(contents(folder)) == ["learning.safetensors"]
        disk.free()
        assert learn(faces, kind, objective, count=3)[0] == whole
        assert contents(folder) == states


def save(faces, direction, name: str, replace: bool = True) -> None:
    faces.node("HSpaceSaveDirection").execute(direction, name, replace)


def test_a_full_disk_keeps_the_file_that_was_to_be_replaced(faces, disk):
    old, new = (faces.direction("smile", seed) for seed in (0, 1))
    with folder_of("hspace_directions", disk.folder) as folder:
        save(faces, old, "smile")
        disk.fill()
        for name in ("smile", "another"):
            with pytest.raises(ValueError, match=f"Could not write {name}.*free some disk space"):
                save(faces, new, name)
        disk.free()
        assert [path.name for path in folder.iterdir()] == ["smile.safetensors"]
        assert faces.directions.load_direction(folder / "smile.safetensors") == old
        save(faces, new, "smile")
        assert faces.directions.load_direction(folder / "smile.safetensors") == new


@pytest.fixture
def read_only(tmp_path):
    """A folder that even root can only read, and what makes it so."""
    folder = tmp_path / "read only"
    folder.mkdir()
    mounts = []

    def close():
        mounted("--bind", folder, folder)
        mounts.append(folder)
        mounted("-o", "remount,ro,bind", folder)

    yield SimpleNamespace(folder=folder, close=close)
    for folder in mounts:
        subprocess.run([UMOUNT, folder], check=True)


def test_a_read_only_folder_gives_what_it_has_and_refuses_more(record, model, faces, read_only):
    with folder_of("hspace_banks", read_only.folder) as folder, folder_of("hspace_directions", read_only.folder):
        sample_bank(record, model, count=4)
        save(faces, faces.direction("smile", 0), "smile")
        before = contents(folder)
        read_only.close()
        bank, *_ = sample_bank(record, model, count=4)
        assert len(bank) == 4
        with pytest.raises(ValueError, match="(?s)Could not write.*Read-only.*check the permissions"):
            sample_bank(record, model, count=6)
        for name in ("smile", "new/smile"):
            with pytest.raises(ValueError, match="Could not write smile.*Read-only"):
                save(faces, faces.direction("smile", 1), name)
        assert contents(folder) == before


def test_a_file_in_the_place_of_the_folder_is_said(record, model, faces, tmp_path):
    place = tmp_path / "models"
    place.write_text("not a folder")
    with folder_of("hspace_banks", place), folder_of("hspace_directions", place):
        with pytest.raises(ValueError, match="Could not write.*check the permissions"):
            sample_bank(record, model, count=2)
        with pytest.raises(ValueError, match="Could not write smile.*check the permissions"):
            save(faces, faces.direction("smile", 0), "smile")
    assert place.read_text() == "not a folder"


def test_a_moved_bank_opens_at_its_new_place_and_its_old_name_begins_anew(record, model, undisturbed, tmp_path):
    with folder_of("hspace_banks", tmp_path / "old"):
        bank, *_ = sample_bank(record, model, count=4)
        h, folder = bank.h("middle", 0), bank.shards[0].path.parent
    moved = folder.rename(tmp_path / "elsewhere")
    assert torch.equal(open_bank(moved).h("middle", 0), h)
    with pytest.raises(ValueError, match="A part of the bank is gone"):
        bank.h("middle", 0)
    with folder_of("hspace_banks", tmp_path / "old"):
        sample_bank(record, model, count=8)
        assert contents(folder) == undisturbed
    with folder_of("hspace_banks", tmp_path / "new"):
        os.renames(moved, tmp_path / "new" / folder.name)
        sample_bank(record, model, count=8)
        assert contents(tmp_path / "new") == undisturbed


def test_a_bank_that_moves_during_a_capture_says_so_and_is_completed(record, model, undisturbed, tmp_path, monkeypatch):
    with folder_of("hspace_banks", tmp_path / "banks") as folder:
        move = lambda: os.renames(next(folder.iterdir()), tmp_path / "elsewhere")  # noqa: E731
        monkeypatch.setattr(record, "sample", after(3, record.sample, move))
        with pytest.raises(ValueError, match=r"The bank has no seeds \[10, 11, 12, 13\].*Sample them first"):
            sample_bank(record, model, count=8)
        sample_bank(record, model, count=8)
        assert contents(folder) == undisturbed


def test_seeds_that_another_server_has_recorded_meanwhile_are_not_written_twice(record, model, tmp_path, monkeypatch):
    """It takes seeds 13 to 16 while 12 and 13 are sampled here, in batches that begin elsewhere."""
    with folder_of("hspace_banks", tmp_path):
        alone, *_ = sample_bank(record, model, count=8, batch_size=1, name="alone")
        sampled = record.sample

        def other() -> None:
            monkeypatch.setattr(record, "sample", sampled)
            sample_bank(record, model, first_seed=13, count=4, batch_size=3, name="shared")

        monkeypatch.setattr(record, "sample", after(2, sampled, other))
        shared, *_ = sample_bank(record, model, count=8, name="shared")
    assert [shard.seeds for shard in shared.shards] == [(10, 11), (12,), (13, 14, 15), (16,), (17,)]
    torch.testing.assert_close(
        shared.h("middle", 1), alone.h("middle", 1), rtol=2e-3, atol=5e-3
    )  # float16 rounding of sums


def test_two_servers_that_finish_a_seed_at_once_write_it_once(record, model, servers, monkeypatch):
    """Another has seed 11 done too when this one has looked what is there and begins to write: it waits, and looks."""

    def other() -> None:
        servers.begin(dict(name="at once", first_seed=11, count=2))
        servers.wait(2)  # in vain where it must wait for us

    with folder_of("hspace_banks", servers.folder):
        monkeypatch.setattr(record, "write_shard", after(1, record.write_shard, other))
        sample_bank(record, model, first_seed=10, count=2, name="at once")
        assert servers.answer() == "2 seeds\n"
        bank, *_ = sample_bank(record, model, first_seed=10, count=3, name="at once")
    assert [shard.seeds for shard in bank.shards] == [(10, 11), (12,)]


def test_a_server_killed_while_it_writes_leaves_no_lock(record, model, undisturbed, tmp_path):
    with folder_of("hspace_banks", tmp_path):
        bank, *_ = sample_bank(record, model, count=2)
        folder = bank.shards[0].path.parent
        ours, theirs = os.pipe()
        child = os.fork()
        if child == 0:
            with record.sole_writer(folder):
                os.write(theirs, b"locked")
                signal.pause()
        assert os.read(ours, 6) == b"locked"
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        sample_bank(record, model, count=8)
    assert contents(tmp_path) == undisturbed


def test_two_writers_of_one_file_do_not_take_each_others_half(tmp_path, monkeypatch):
    """The second begins and ends between the writing and the renaming of the first."""
    path, replace = tmp_path / "d.safetensors", Path.replace

    def other() -> None:
        monkeypatch.setattr(Path, "replace", replace)
        save_direction(direction(1), path)
        assert load_direction(path) == direction(1)

    monkeypatch.setattr(Path, "replace", after(1, replace, other))
    save_direction(direction(0), path)
    assert load_direction(path) == direction(0)
    assert [found.name for found in tmp_path.iterdir()] == [path.name]


def test_killed_in_the_middle_of_writing_the_old_file_is_still_there(tmp_path):
    old, new = direction(0), direction(1, shape=(512, 64, 64))
    path = tmp_path / "d.safetensors"
    save_direction(old, path)
    while not killed_while_saving(new, path):  # most kills come in time
        save_direction(old, path)
    assert load_direction(path) == old
    save_direction(new, path)
    assert load_direction(path) == new


def killed_while_saving(direction, path: Path) -> bool:
    """Whether SIGKILL came between the beginning of the file and its end."""
    for half in path.parent.glob(".*.partial"):
        half.unlink()
    child = os.fork()
    if child == 0:
        try:
            save_direction(direction, path)
        finally:
            os._exit(0)
    while not any(path.parent.glob(".*.partial")):
        if os.waitpid(child, os.WNOHANG)[0]:
            return False
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return any(half.stat().st_size < 4 * direction.deltas["middle"].numel() for half in path.parent.glob(".*.partial"))


@pytest.fixture(scope="module")
def servers(tmp_path_factory):
    """Two processes with ComfyUI and this pack that record when they are told to, into one folder."""
    folder = tmp_path_factory.mktemp("shared")
    tests = Path(__file__).parents[1]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{tests}{os.pathsep}{tests / 'nodes'}"}
    command = [sys.executable, __file__, str(folder)]
    pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
    processes = [subprocess.Popen(command, **pipes) for _ in range(2)]
    assert all(process.stdout.readline() == "ready\n" for process in processes)

    def begin(job: dict, server: int = 0) -> None:
        processes[server].stdin.write(json.dumps(job) + "\n")
        processes[server].stdin.flush()

    def answer(server: int = 0) -> str:
        return processes[server].stdout.readline()

    def tell(*jobs: dict) -> None:
        """A job for each, at the same time."""
        for server, job in enumerate(jobs):
            begin(job, server)
        assert [answer(server) for server, _ in enumerate(jobs)] == [f"{job['count']} seeds\n" for job in jobs]

    tell(dict(name="alone", first_seed=0, count=24))
    yield SimpleNamespace(
        folder=folder,
        tell=tell,
        begin=begin,
        answer=answer,
        wait=lambda seconds: select.select([processes[0].stdout], [], [], seconds),
        contents=lambda name: contents(next(folder.glob(f"{name}-*"))),
    )
    for process in processes:
        process.stdin.close()
        process.wait()


def test_two_servers_with_different_seeds_fill_one_bank(servers):
    servers.tell(*(dict(name="different", first_seed=first, count=12) for first in (0, 12)))
    assert servers.contents("different") == servers.contents("alone")


def test_two_servers_with_the_same_seeds_write_each_once(servers):
    servers.tell(*[dict(name="same", first_seed=0, count=24)] * 2)
    assert servers.contents("same") == servers.contents("alone")


def test_two_servers_with_overlapping_seeds_fill_one_bank(servers):
    servers.tell(*(dict(name="overlapping", first_seed=first, count=18) for first in (0, 6)))
    assert servers.contents("overlapping") == servers.contents("alone")


def main() -> None:
    from conftest import ROOT

    start, folders = ROOT / "__init__.py", [str(ROOT)]
    spec = importlib.util.spec_from_file_location("hspace_pack", start, submodule_search_locations=folders)
    sys.modules["hspace_pack"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules["hspace_pack"])
    record, tiny = importlib.import_module("hspace_pack.nodes.host.bank_recording"), sd15()
    print("ready", flush=True)
    for line in sys.stdin:
        with folder_of("hspace_banks", sys.argv[1]):
            bank, *_ = sample_bank(record, tiny, **json.loads(line))
        print(len(bank), "seeds", flush=True)


if __name__ == "__main__":
    main()
