import resource
from contextlib import contextmanager
from dataclasses import replace
from functools import reduce

import pytest
import torch
from planted import SOURCE, direction
from safetensors.torch import save_file

from directions import Direction, combine, load_direction, orthogonalise, safe_path, save_direction


def test_a_saved_direction_loads_exactly(tmp_path):
    d = direction(recipe='{"find": "PCA"}', name="smile ü")
    save_direction(d, tmp_path / "people" / "smile.safetensors")
    assert load_direction(tmp_path / "people" / "smile.safetensors") == d


def test_the_model_browser_finds_its_keys(tmp_path):
    from safetensors import safe_open

    save_direction(direction(), tmp_path / "d.safetensors", thumbnail="data:image/jpeg;base64,AA==")
    with safe_open(tmp_path / "d.safetensors", "pt") as file:
        metadata = file.metadata()
    assert metadata["modelspec.title"] == "d0"
    assert metadata["modelspec.architecture"] == "DDPM/h-space-direction"
    assert metadata["modelspec.thumbnail"].startswith("data:image/jpeg")


def test_how_far_it_is_usable_is_saved_too(tmp_path):
    for usable in ((-1.5, 2.25), (0.0, 0.1), None):
        d = direction(usable=usable)
        save_direction(d, tmp_path / "d.safetensors")
        assert load_direction(tmp_path / "d.safetensors") == d
        assert load_direction(tmp_path / "d.safetensors").usable == usable


@pytest.mark.parametrize(
    "usable", ["[1, 2]", "[-1]", "[-1, 1, 2]", '["-1", 1]', "{}", "5", "[NaN, 1]", "[0, 1e400]", "no"]
)
def test_a_usable_range_that_is_none_is_refused(tmp_path, usable):
    tensors = {"delta.middle": direction().deltas["middle"], "timesteps": direction().timesteps}
    save_file(tensors, tmp_path / "d.safetensors", metadata=metadata_of(tmp_path, usable=usable))
    with pytest.raises(ValueError, match="usable|not a whole direction file"):
        load_direction(tmp_path / "d.safetensors")


def metadata_of(tmp_path, **changes):
    from safetensors import safe_open

    save_direction(direction(), tmp_path / "whole.safetensors")
    with safe_open(tmp_path / "whole.safetensors", "pt") as file:
        return {key: value for key, value in (file.metadata() | changes).items() if value is not None}


@pytest.mark.parametrize("keep", [0, 4, 100, -1])
def test_a_truncated_file_is_refused(tmp_path, keep):
    path = tmp_path / "d.safetensors"
    save_direction(direction(), path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match="d.safetensors is not a whole direction file"):
        load_direction(path)


def test_a_header_that_claims_ten_terabytes_is_refused(tmp_path):
    path = tmp_path / "d.safetensors"
    header = b'{"delta.middle":{"dtype":"F32","shape":[1,1,1,2500000000000],"data_offsets":[0,10000000000000]}}'
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(ValueError, match="not a whole direction file"):
        load_direction(path)


def test_a_foreign_file_is_refused(tmp_path):
    save_file({"lora_up": torch.zeros(2)}, tmp_path / "lora.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match="got format 'pt', wanted 'hspace-direction'"):
        load_direction(tmp_path / "lora.safetensors")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format_version": "3"}, "has format version 3, this pack reads versions 1 and 2"),
        ({"format_version": "1", "site": "middle_block_after"}, "is damaged: got tensors delta.middle, timesteps"),
        ({"family": None}, "'family'"),
        ({"recipe": "{"}, "not a whole direction file"),
        ({"image_size": "7"}, "not a whole direction file"),
        ({"image_size": "[Infinity, 1]"}, "not a whole direction file"),
        ({"image_size": '["a", 1]'}, "not a whole direction file"),
        ({"image_size": "[0, 64]"}, r"got image_size \[0, 64\]"),
        ({"image_size": "[true, 64]"}, r"got image_size \[True, 64\]"),
        ({"image_size": "[" + "9" * 5000 + ", 1]"}, "not a whole direction file"),
        ({"recipe": "[" * 401 + "]" * 401}, "nests 401 levels deep, at most 400"),
    ],
)
def test_damaged_metadata_is_refused(tmp_path, changes, message):
    tensors = {"delta.middle": torch.zeros(1, 2, 3, 3), "timesteps": torch.zeros(1)}
    save_file(tensors, tmp_path / "d.safetensors", metadata=metadata_of(tmp_path, **changes))
    with pytest.raises(ValueError, match=message):
        load_direction(tmp_path / "d.safetensors")


def test_a_nan_in_a_file_is_refused(tmp_path):
    tensors = {"delta.middle": torch.full((1, 2, 3, 3), float("nan")), "timesteps": torch.zeros(1)}
    save_file(tensors, tmp_path / "d.safetensors", metadata=metadata_of(tmp_path))
    with pytest.raises(ValueError, match="NaN or infinity"):
        load_direction(tmp_path / "d.safetensors")


def test_a_recipe_that_nests_as_deep_as_is_read_can_be_worked_with(tmp_path):
    recipe = "[" * 400 + "]" * 400
    save_direction(direction(recipe=recipe), tmp_path / "d.safetensors")
    assert (load_direction(tmp_path / "d.safetensors") * 2).recipe == f'{{"times": [2.0, {recipe}]}}'


def combined_in_stages(stages):
    made = direction(0)
    for stage in range(stages):
        made = combine([made, *(direction(seed) for seed in range(1, 50))], [0.5 + stage] * 50)
    return made


@pytest.mark.parametrize(
    "made",
    [combined_in_stages(5), reduce(Direction.__add__, [direction(seed) for seed in range(250)]),
     reduce(lambda made, _: -1.1 * made, range(300), direction())],
    ids=["five combinations of fifty", "a chain of 250 additions", "a chain of 300 factors"],
)  # fmt: skip
def test_what_was_combined_in_many_stages_loads_as_it_was_saved(tmp_path, made):
    save_direction(made, tmp_path / "d.safetensors")
    assert load_direction(tmp_path / "d.safetensors") == made


def test_a_recipe_that_nests_too_deep_to_be_read_again_is_not_written(tmp_path):
    save_direction(direction(), tmp_path / "d.safetensors")
    made = direction(0)
    for seed in range(200):
        made = orthogonalise(direction(seed + 1), [made])
    with pytest.raises(ValueError, match="Could not write d.safetensors: .* nests .* levels deep.*Nothing was changed"):
        save_direction(made, tmp_path / "d.safetensors")
    assert load_direction(tmp_path / "d.safetensors") == direction()
    assert [file.name for file in tmp_path.iterdir()] == ["d.safetensors"]


def test_a_direction_that_would_load_as_another_one_is_not_written(tmp_path):
    with pytest.raises(ValueError, match="Could not write d.safetensors: .* is another one.*Nothing was changed"):
        save_direction(direction(source=replace(SOURCE, image_size=[64, 64])), tmp_path / "d.safetensors")
    assert not list(tmp_path.iterdir())


def test_a_file_that_shrinks_after_it_was_loaded_leaves_the_direction_whole(tmp_path):
    save_direction(direction(), tmp_path / "d.safetensors")
    loaded = load_direction(tmp_path / "d.safetensors")
    (tmp_path / "d.safetensors").write_bytes(b"")
    assert loaded == direction()  # in a mapped file it would end the process


def test_a_recipe_too_large_to_be_read_again_is_not_written(tmp_path):
    with pytest.raises(ValueError, match="Could not write d.safetensors: got a recipe .* wanted at most"):
        save_direction(direction(recipe=f'"{"x" * (16 << 20)}"'), tmp_path / "d.safetensors")
    assert not list(tmp_path.iterdir())


def test_further_tensors_in_a_file_are_refused(tmp_path):
    tensors = {"delta.middle": torch.zeros(1, 2, 3, 3), "timesteps": torch.zeros(1), "more": torch.zeros(1)}
    save_file(tensors, tmp_path / "d.safetensors", metadata=metadata_of(tmp_path))
    with pytest.raises(
        ValueError, match="got tensors delta.middle, more, timesteps, wanted deltas of sites and their timesteps"
    ):
        load_direction(tmp_path / "d.safetensors")


@pytest.mark.parametrize(
    "name",
    ["", " ", ".", "..", "../smile", "a/../../b", "/etc/smile", "a//b", "C:/smile", "a\\b", "con", "NUL.x", "a\0b",
     "a\nb", "smile ", ".hidden", "x" * 101, "a/",
     "\N{CJK UNIFIED IDEOGRAPH-9577}" * 40],
)  # fmt: skip
def test_a_name_that_is_no_file_name_is_refused(tmp_path, name):
    with pytest.raises(ValueError, match="can't be a file name"):
        safe_path(tmp_path, name)


def test_a_symlink_out_of_the_folder_is_refused(tmp_path):
    root = tmp_path / "directions"
    root.mkdir()
    (root / "out").symlink_to(tmp_path)
    with pytest.raises(ValueError, match="leads out of directions"):
        safe_path(root, "out/smile")


def test_a_sub_folder_and_the_suffix_are_understood(tmp_path):
    assert safe_path(tmp_path, "people/smile.safetensors") == tmp_path / "people" / "smile.safetensors"


def test_a_folder_that_is_a_file_is_said(tmp_path):
    (tmp_path / "people").write_text("")
    with pytest.raises(ValueError, match="Could not write smile.safetensors"):
        save_direction(direction(), tmp_path / "people" / "smile.safetensors")


@contextmanager
def full_disk():
    """The system refuses to write more than 4 KiB to a file, as a full disk would. Not a fixture: pytest writes too."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_full_disk_is_said_and_leaves_the_older_file_whole(tmp_path):
    path = tmp_path / "d.safetensors"
    small = direction(timesteps=torch.tensor([1.0]), shape=(2, 2, 2))
    save_direction(small, path)
    with full_disk(), pytest.raises(ValueError, match="Could not write d.safetensors.*Nothing was changed"):
        save_direction(direction(shape=(64, 8, 8)), path)
    assert load_direction(path) == small
    assert [file.name for file in tmp_path.iterdir()] == ["d.safetensors"]
