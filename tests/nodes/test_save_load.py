"""Save Direction and Load Direction, in ComfyUI's folders."""

import base64
import importlib
from io import BytesIO

import pytest
import torch
from PIL import Image
from safetensors import safe_open

pytestmark = pytest.mark.comfy


@pytest.fixture
def nodes(pack, nodes_of_pack, tmp_path):
    """The two nodes, with models/hspace_directions moved to a folder of this test's own."""
    import folder_paths

    importlib.import_module(f"{pack.__name__}.nodes.host.paths").register_folders()
    before = folder_paths.folder_names_and_paths["hspace_directions"]
    folder_paths.folder_names_and_paths["hspace_directions"] = ([str(tmp_path)], {".safetensors"})
    folder_paths.filename_list_cache.pop("hspace_directions", None)
    yield nodes_of_pack
    folder_paths.folder_names_and_paths["hspace_directions"] = before


@pytest.fixture
def direction(pack):
    directions = importlib.import_module(f"{pack.__name__}.directions")
    return directions.Direction(
        deltas={"middle": torch.randn(3, 2, 4, 4, generator=torch.Generator().manual_seed(0))},
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
    assert torch.equal(saved.deltas["middle"], direction.deltas["middle"])


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
    assert torch.equal(loaded.deltas["middle"], direction.deltas["middle"] * 2)


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


def test_a_thumbnail_is_kept_in_the_file_as_a_small_jpeg(nodes, direction, tmp_path):
    image = torch.linspace(0, 1, 1024).reshape(1, 1, -1, 1).expand(2, 200, -1, 3)
    saved = nodes.HSpaceSaveDirection.execute(direction, "smile", False, image).result[0]
    with safe_open(tmp_path / "smile.safetensors", "pt") as file:
        kind, _, data = file.metadata()["modelspec.thumbnail"].partition(",")
    assert kind == "data:image/jpeg;base64"
    with Image.open(BytesIO(base64.b64decode(data))) as picture:
        assert picture.size == (512, 100)
        assert [picture.getpixel((x, 50))[0] for x in (0, 255, 511)] == pytest.approx([0, 127, 255], abs=3)
    assert nodes.HSpaceLoadDirection.execute("smile.safetensors").result[0] == saved


def test_the_author_is_saved_and_loaded_and_outlives_arithmetic(nodes, direction):
    nodes.HSpaceSaveDirection.execute(direction, "smile", False, None, " Ada ")
    loaded = nodes.HSpaceLoadDirection.execute("smile.safetensors").result[0]
    assert loaded.author == (2 * loaded).author == (loaded + loaded).author == "Ada"
    nodes.HSpaceSaveDirection.execute(loaded, "again", False)
    assert nodes.HSpaceLoadDirection.execute("again.safetensors").result[0].author == "Ada"


def test_a_missing_direction_is_named_with_what_the_workflow_says_of_it(nodes, direction):
    nodes.HSpaceSaveDirection.execute(direction, "smile", False)
    assert nodes.HSpaceLoadDirection.validate_inputs("smile.safetensors", "") is True
    message = nodes.HSpaceLoadDirection.validate_inputs("age.safetensors", "PCA of 300 faces, component 2")
    assert '"age.safetensors"' in message and "models/hspace_directions" in message
    assert message.endswith("The workflow says: PCA of 300 faces, component 2")
    assert "does not say" in nodes.HSpaceLoadDirection.validate_inputs("../smile.safetensors")
