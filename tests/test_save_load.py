"""Save Direction and Load Direction, in ComfyUI's folders."""

import importlib

import pytest
import torch

pytestmark = pytest.mark.comfy


@pytest.fixture
def nodes(pack, tmp_path):
    """The two nodes, with models/hspace_directions moved to a folder of this test's own."""
    import folder_paths

    importlib.import_module(f"{pack.__name__}.nodes.folders").register_folders()
    before = folder_paths.folder_names_and_paths["hspace_directions"]
    folder_paths.folder_names_and_paths["hspace_directions"] = ([str(tmp_path)], {".safetensors"})
    folder_paths.filename_list_cache.pop("hspace_directions", None)
    yield importlib.import_module(f"{pack.__name__}.nodes.files")
    folder_paths.folder_names_and_paths["hspace_directions"] = before


@pytest.fixture
def direction(pack):
    directions = importlib.import_module(f"{pack.__name__}.directions")
    return directions.Direction(
        delta=torch.randn(3, 2, 4, 4, generator=torch.Generator().manual_seed(0)),
        timesteps=torch.tensor([900.0, 500.0, 100.0]),
        name="component 1",
        method="PCA",
        unit="one",
        source=directions.Source("DDPM", "0", "positive", (64, 64)),
        recipe="{}",
    )


def names(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_what_is_saved_is_listed_and_loads_as_it_was(nodes, direction, tmp_path):
    import folder_paths

    saved = nodes.HSpaceSaveDirection.execute(direction, "people/smile", False).result[0]
    assert folder_paths.get_filename_list("hspace_directions") == ["people/smile.safetensors"]
    assert nodes.HSpaceLoadDirection.execute("people/smile.safetensors").result[0] == saved
    assert saved.name == "smile"
    assert torch.equal(saved.delta, direction.delta)


def test_an_empty_name_takes_the_directions_own(nodes, direction, tmp_path):
    nodes.HSpaceSaveDirection.execute(direction, " ", False)
    assert names(tmp_path) == ["component 1.safetensors"]


def test_an_older_file_is_kept_and_the_same_direction_is_not_saved_twice(nodes, direction, tmp_path):
    for version in (direction, direction * 2, direction, direction * 2, direction * 3):
        nodes.HSpaceSaveDirection.execute(version, "smile", False)
    assert names(tmp_path) == ["smile 2.safetensors", "smile 3.safetensors", "smile.safetensors"]


def test_replace_replaces(nodes, direction, tmp_path):
    for version in (direction, direction * 2):
        nodes.HSpaceSaveDirection.execute(version, "smile", True)
    assert names(tmp_path) == ["smile.safetensors"]
    loaded = nodes.HSpaceLoadDirection.execute("smile.safetensors").result[0]
    assert torch.equal(loaded.delta, direction.delta * 2)


@pytest.mark.parametrize("name", ["../smile", "/smile", "a/../../smile", "con"])
def test_a_name_out_of_the_folder_is_refused(nodes, direction, tmp_path, name):
    with pytest.raises(ValueError, match="can't be a file name"):
        nodes.HSpaceSaveDirection.execute(direction, name, False)
    assert names(tmp_path) == []


def test_a_changed_file_is_loaded_again(nodes, direction, tmp_path):
    nodes.HSpaceSaveDirection.execute(direction, "smile", True)
    before = nodes.HSpaceLoadDirection.fingerprint_inputs("smile.safetensors")
    nodes.HSpaceSaveDirection.execute(direction * 2, "smile", True)
    assert nodes.HSpaceLoadDirection.fingerprint_inputs("smile.safetensors") != before


def test_a_path_out_of_the_folder_is_not_loaded(nodes, tmp_path):
    with pytest.raises(FileNotFoundError):
        nodes.HSpaceLoadDirection.execute("../../etc/passwd")
