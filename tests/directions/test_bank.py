import resource

import pytest
import torch
from planted import SHAPE, SOURCE, TIMESTEPS, bank, trajectories
from safetensors import safe_open
from safetensors.torch import save_file

from directions import open_bank, write_shard


def test_h_comes_back_as_it_was_recorded_whatever_the_shards(tmp_path):
    h, _ = trajectories(20)
    for shard in (1, 7, 20):
        recorded = bank(tmp_path / str(shard), h, shard=shard)
        for step in range(len(TIMESTEPS)):
            assert torch.equal(recorded.h("middle", step), h[:, step].float())


def test_the_order_of_recording_does_not_matter(tmp_path):
    h, _ = trajectories(12)
    shuffled = bank(tmp_path, h, shard=5, order=[7, 2, 11, 0, 4, 1, 9, 3, 10, 5, 8, 6])
    assert shuffled.seeds == tuple(range(12))
    assert torch.equal(shuffled.h("middle", 1), h[:, 1].float())
    assert shuffled.latents()[:, 0, 0, 0].tolist() == list(range(12))


def test_a_slice_of_channels_is_that_slice_of_h(tmp_path):
    h, _ = trajectories(9)
    assert torch.equal(bank(tmp_path, h).h("middle", 2, slice(1, 4)), h[:, 2, 1:4].float())


def test_a_selection_has_its_seeds_in_its_order(tmp_path):
    h, _ = trajectories(9)
    chosen = bank(tmp_path, h).select([8, 0, 3])
    assert torch.equal(chosen.h("middle", 0), h[[8, 0, 3], 0].float())
    with pytest.raises(ValueError, match=r"no seeds \[9\]"):
        chosen.select([9])


def test_seeds_of_64_bits_survive(tmp_path):
    h, _ = trajectories(2)
    seeds = [0, (1 << 64) - 1]
    write_shard(
        tmp_path, seeds, timesteps=TIMESTEPS, h={"middle": h}, latents=torch.zeros(2, 1), source=SOURCE, recipe="{}"
    )
    assert open_bank(tmp_path).seeds == (0, (1 << 64) - 1)


def test_shards_of_another_machine_join_by_being_copied(tmp_path):
    h, _ = trajectories(10)
    parts = {"here": [0, 1, 2, 3], "there": [4, 5, 6, 7, 8, 9]}
    for machine, seeds in parts.items():
        bank(tmp_path / machine, h, order=seeds)
    for file in (tmp_path / "there").iterdir():
        file.rename(tmp_path / "here" / file.name)
    assert torch.equal(open_bank(tmp_path / "here").h("middle", 3), h[:, 3].float())


def test_an_empty_bank_is_refused(tmp_path):
    with pytest.raises(ValueError, match="is empty"):
        open_bank(tmp_path)


def test_shards_of_another_recipe_are_refused(tmp_path):
    h, _ = trajectories(4)
    bank(tmp_path, h[:2])
    with pytest.raises(ValueError, match="its recipe differs"):
        bank(tmp_path, h, order=[2, 3], recipe='{"cfg": 7}')


def test_a_seed_held_twice_is_refused(tmp_path):
    h, _ = trajectories(4)
    bank(tmp_path, h, order=[0, 1])
    with pytest.raises(ValueError, match=r"seeds \[1\] twice"):
        bank(tmp_path, h, order=[1, 2, 3])


@pytest.mark.parametrize("keep", [3, 200, -1])
def test_a_truncated_shard_is_refused_by_name(tmp_path, keep):
    h, _ = trajectories(4)
    recorded = bank(tmp_path, h)
    path = recorded.shards[0].path
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match=f"{path.name} is not a whole shard.*sampled again"):
        open_bank(tmp_path)


def test_an_unfinished_shard_is_not_seen(tmp_path):
    h, _ = trajectories(4)
    bank(tmp_path, h)
    (tmp_path / ".seed-9.safetensors.partial").write_bytes(b"half")
    assert len(open_bank(tmp_path)) == 4


def test_an_overflowing_h_is_refused_and_leaves_nothing(tmp_path):
    h = torch.full((1, 4, *SHAPE), 1e6)
    with pytest.raises(ValueError, match="not finite in float16"):
        bank(tmp_path, h)
    assert not list(tmp_path.iterdir())


def test_latents_that_are_not_finite_are_refused_and_leave_nothing(tmp_path):
    h, _ = trajectories(1)
    latents = torch.full((1, 3, 4, 4), float("nan"))
    with pytest.raises(ValueError, match=r"latents of seeds \[0\] are not finite"):
        write_shard(tmp_path, [0], timesteps=TIMESTEPS, h={"middle": h}, latents=latents, source=SOURCE, recipe="{}")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("what", ["h.middle", "latents"])
def test_a_shard_whose_numbers_were_spoilt_is_refused_when_they_are_read(tmp_path, what):
    spoilt = bank(tmp_path, trajectories(2)[0])
    path = spoilt.shards[0].path
    with safe_open(path, "pt") as file:
        tensors, metadata = {name: file.get_tensor(name).clone() for name in file.keys()}, file.metadata()  # noqa: SIM118
    tensors[what].view(-1)[-1] = float("nan")
    save_file(tensors, path, metadata)
    with pytest.raises(ValueError, match=f"{path.name} holds NaN or infinity in {what}"):
        open_bank(tmp_path).h("middle", len(TIMESTEPS) - 1) if what != "latents" else open_bank(tmp_path).latents()


def test_what_else_is_kept_of_a_trajectory_comes_back_by_seed_and_timestep(tmp_path):
    h, _ = trajectories(5)
    noises, errors = torch.randn(5, len(TIMESTEPS), 3, 4, 4), torch.arange(5.0)
    words = {"timesteps": TIMESTEPS, "source": SOURCE, "recipe": "{}"}
    for rows in ([3, 4], [0, 1, 2]):
        extras = {"noises": noises[rows], "error": errors[rows]}
        write_shard(
            tmp_path, rows, h={"middle": h[rows]}, latents=torch.zeros(len(rows), 3, 4, 4), extras=extras, **words
        )
    kept = open_bank(tmp_path)
    assert kept.extras == {"error": (), "noises": (len(TIMESTEPS), 3, 4, 4)}
    assert torch.equal(kept.select([4, 1]).kept("noises", 2), noises[[4, 1], 2])
    assert torch.equal(kept.kept("error"), errors)
    with pytest.raises(ValueError, match=r"trajectory for each seed: got 1 seeds.*noises \(2, "):
        write_shard(
            tmp_path, [9], h={"middle": h[:1]}, latents=torch.zeros(1, 3, 4, 4), extras={"noises": noises[:2]}, **words
        )
    write_shard(
        tmp_path, [9], h={"middle": h[:1]}, latents=torch.zeros(1, 3, 4, 4), extras={"noises": noises[:1]}, **words
    )
    with pytest.raises(ValueError, match="its extras differs"):
        open_bank(tmp_path)


@pytest.mark.parametrize("extra", [torch.zeros(3, 2), torch.zeros(2, 0), torch.zeros(2).long(), torch.tensor(0.0)])
def test_a_shard_whose_extras_do_not_fit_is_refused(tmp_path, extra):
    path = bank(tmp_path, trajectories(2)[0]).shards[0].path
    with safe_open(path, "pt") as file:
        tensors, metadata = {name: file.get_tensor(name).clone() for name in file.keys()}, file.metadata()  # noqa: SIM118
    save_file(tensors | {"noises": extra}, path, metadata)
    with pytest.raises(ValueError, match="contradicts itself"):
        open_bank(tmp_path)


def test_shards_with_latents_of_another_size_are_refused(tmp_path):
    h, _ = trajectories(2)
    bank(tmp_path, h[:1])
    latents = torch.zeros(1, 3, 8, 8)
    write_shard(tmp_path, [1], timesteps=TIMESTEPS, h={"middle": h[1:]}, latents=latents, source=SOURCE, recipe="{}")
    with pytest.raises(ValueError, match="its latent_shape differs"):
        open_bank(tmp_path)


def test_a_full_disk_is_said_and_leaves_no_half_shard(tmp_path):
    h, _ = trajectories(40)
    whole = bank(tmp_path, h[:2])
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with pytest.raises(ValueError, match="Could not write seed-.*Nothing was changed"):
            bank(tmp_path, h, order=list(range(2, 40)), shard=38)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [path.name for path in tmp_path.iterdir()] == [whole.shards[0].path.name]
