"""The nodes' lists: read again when something has changed, and only then."""

import json
import os
import shutil
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from demo_faces import folder_of

pytestmark = pytest.mark.comfy

READS = {"open", "os.listdir", "os.scandir"}
reads: list[tuple] = []
sys.addaudithook(lambda event, args: reads.append((event, args[0])) if event in READS else None)


@pytest.fixture
def models(tmp_path):
    """Folders with a bank that is scored and a model that is judged by itself, as they are after a while."""
    (tmp_path / "banks" / "faces" / "by hand").mkdir(parents=True)
    (tmp_path / "banks" / "faces" / "seed-0-1.safetensors").write_bytes(b"")
    (tmp_path / "banks" / "faces" / "by hand" / "smiles.csv").write_text("seed,smile\n1,2\n")
    (tmp_path / "models" / "ddpm" / "unet").mkdir(parents=True)
    (tmp_path / "models" / "ddpm" / "unet" / "config.json").write_text(json.dumps({"_class_name": "UNet2DModel"}))
    (tmp_path / "models" / "eyes").mkdir()
    (tmp_path / "models" / "eyes" / "config.json").write_text("{}")
    rest(tmp_path)
    with (
        folder_of("hspace_banks", tmp_path / "banks") as banks,
        folder_of("hspace_classifiers", tmp_path / "models") as models,
        folder_of("diffusers", tmp_path / "models"),
        folder_of("hspace_directions", tmp_path / "directions"),
    ):
        yield SimpleNamespace(root=tmp_path, banks=banks, models=models)


def rest(folder: Path) -> None:
    """An hour passes in which nothing changes."""
    for path in (folder, *folder.rglob("*")):
        os.utime(path, ns=(time.time_ns() - 3600 * 10**9,) * 2, follow_symlinks=False)


@pytest.fixture
def offered(host):
    def offered() -> tuple[list[str], list[str], list[str]]:
        """What the three lists offer, without the demo's own."""
        models, classifiers = list(host.model_folders())[1:], list(host.classifier_folders())[1:]
        return list(host.score_files()), models, classifiers

    return offered


BEFORE = (["faces/by hand/smiles.csv"], ["ddpm"], ["eyes"])


def test_the_second_schema_of_every_node_reads_nothing(nodes_of_pack, models):
    from comfy_api.latest import io

    schemas = [node for node in vars(nodes_of_pack).values() if issubclass(node, io.ComfyNode)]
    first = [node.GET_SCHEMA() for node in schemas]
    reads.clear()
    again = [node.GET_SCHEMA() for node in schemas]
    assert reads == []
    assert [schema.node_id for schema in again] == [schema.node_id for schema in first]


def a_new_file_in_a_nested_folder(models):
    (models.banks / "faces" / "by hand" / "ages.json").write_text("[]")
    return ["faces/by hand/ages.json", "faces/by hand/smiles.csv"], ["ddpm"], ["eyes"]


def a_new_folder_with_a_file(models):
    (models.banks / "new" / "deep").mkdir(parents=True)
    (models.banks / "new" / "deep" / "ages.csv").write_text("")
    return ["faces/by hand/smiles.csv", "new/deep/ages.csv"], ["ddpm"], ["eyes"]


def a_removed_file(models):
    (models.banks / "faces" / "by hand" / "smiles.csv").unlink()
    return [], ["ddpm"], ["eyes"]


def a_removed_bank(models):
    shutil.rmtree(models.banks / "faces")
    return [], ["ddpm"], ["eyes"]


def a_renamed_folder(models):
    (models.banks / "faces").rename(models.banks / "people")
    return ["people/by hand/smiles.csv"], ["ddpm"], ["eyes"]


def a_file_that_becomes_a_link_out(models):
    (models.root / "secret.csv").write_text("")
    (models.banks / "faces" / "by hand" / "smiles.csv").unlink()
    (models.banks / "faces" / "by hand" / "smiles.csv").symlink_to(models.root / "secret.csv")
    return [], ["ddpm"], ["eyes"]


def a_config_that_is_rewritten_in_its_place(models):
    (models.models / "ddpm" / "unet" / "config.json").write_text(json.dumps({"_class_name": "UNet3DModel"}))
    (models.models / "eyes" / "config.json").write_text(json.dumps({"_class_name": "UNet2DModel"}))
    return ["faces/by hand/smiles.csv"], ["eyes"], ["eyes"]


def a_config_that_is_removed(models):
    (models.models / "ddpm" / "unet" / "config.json").unlink()
    (models.models / "eyes" / "config.json").unlink()
    return ["faces/by hand/smiles.csv"], [], []


def a_model_that_is_copied_there(models):
    shutil.copytree(models.models / "ddpm", models.models / "another")
    shutil.copytree(models.models / "eyes", models.models / "ears")
    return ["faces/by hand/smiles.csv"], ["another", "ddpm"], ["ears", "eyes"]


CHANGES = [
    a_new_file_in_a_nested_folder,
    a_new_folder_with_a_file,
    a_removed_file,
    a_removed_bank,
    a_renamed_folder,
    a_file_that_becomes_a_link_out,
    a_config_that_is_rewritten_in_its_place,
    a_config_that_is_removed,
    a_model_that_is_copied_there,
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_a_change_is_seen_at_once(models, offered, change):
    assert offered() == offered() == BEFORE
    expected = change(models)
    assert offered() == expected
    rest(models.root)
    assert offered() == offered() == expected


def test_a_change_within_one_tick_of_the_file_systems_clock_is_seen(models, offered):
    """A folder that has changed just now may change again and show the same time."""
    now = (time.time_ns(),) * 2
    folder = models.banks / "faces"
    os.utime(folder, ns=now)
    assert offered() == BEFORE
    (folder / "ages.csv").write_text("")
    os.utime(folder, ns=now)
    assert offered()[0] == ["faces/ages.csv", "faces/by hand/smiles.csv"]
