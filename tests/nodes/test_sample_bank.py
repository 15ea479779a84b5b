"""Sample Bank: what it keeps, when it samples again, and what it survives."""

import importlib
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from models import conditioning, core_sample, sd15, sigmas
from torch.nn.functional import adaptive_avg_pool2d

pytestmark = pytest.mark.comfy


@pytest.fixture(scope="module")
def record(pack):
    importlib.import_module(f"{pack.__name__}.nodes.host.paths").register_folders()
    return importlib.import_module(f"{pack.__name__}.nodes.host.bank_recording")


@pytest.fixture
def model():
    return sd15()


@pytest.fixture(autouse=True)
def folder(record, tmp_path):
    """Banks go to a folder of this test's own."""
    import folder_paths

    before = folder_paths.folder_names_and_paths["hspace_banks"]
    folder_paths.folder_names_and_paths["hspace_banks"] = ([str(tmp_path)], {".safetensors"})
    yield tmp_path
    folder_paths.folder_names_and_paths["hspace_banks"] = before


def sample_bank(
    record,
    model,
    *,
    sampler="euler",
    count=5,
    first_seed=10,
    batch_size=2,
    cfg=1.0,
    steps=3,
    name="b",
    branch="positive",
    positive=None,
    sites="auto",
    grid=16,
):
    import comfy.samplers

    latent = {"samples": torch.zeros(1, 4, 16, 16)}
    node = importlib.import_module("hspace_pack.nodes.capture.sample_bank").HSpaceSampleBank
    return node.execute(
        model, positive or conditioning(1), conditioning(2),
        comfy.samplers.sampler_object(sampler), sigmas(model, steps), latent, name,
        count, first_seed, batch_size, cfg, branch, sites, grid,
    ).result  # fmt: skip


@pytest.mark.parametrize("sampler", ["euler", "euler_ancestral", "dpmpp_2m_sde"])
def test_h_and_picture_of_a_seed_do_not_depend_on_the_batch(record, model, sampler):
    banks = [sample_bank(record, model, sampler=sampler, batch_size=size, name=str(size))[0] for size in (1, 2, 5)]
    for bank in banks[1:]:
        # float16 rounding of sums in another order
        torch.testing.assert_close(bank.h("middle", 1), banks[0].h("middle", 1), rtol=2e-3, atol=5e-3)
        torch.testing.assert_close(bank.latents(), banks[0].latents(), rtol=1e-3, atol=1e-3)


def test_picture_i_is_the_one_comfyuis_sampler_makes_with_that_seed(record, model):
    _, latent, _ = sample_bank(record, model, sampler="euler_ancestral", batch_size=1)
    for i in range(5):
        core = core_sample(
            model,
            "euler_ancestral",
            sigmas(model, 3),
            conditioning(1),
            conditioning(2),
            {"samples": torch.zeros(1, 4, 16, 16)},
            10 + i,
        )
        assert torch.equal(latent["samples"][i : i + 1], core)


def test_a_bank_is_reused_and_only_missing_seeds_are_sampled(record, model, folder):
    first, *_ = sample_bank(record, model, count=4)
    files = {path: path.stat().st_mtime_ns for path in folder.rglob("*.safetensors")}
    again, *_ = sample_bank(record, model, count=4, batch_size=3)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*.safetensors")} == files
    more, *_ = sample_bank(record, model, count=6)
    assert [path for path in folder.rglob("*.safetensors") if path not in files][0].name.endswith("14-2.safetensors")
    assert more.seeds == (10, 11, 12, 13, 14, 15)
    assert torch.equal(more.h("middle", 0)[:4], first.h("middle", 0))
    assert torch.equal(again.h("middle", 0), first.h("middle", 0))


def test_an_interrupted_bank_keeps_whole_batches_and_continues_to_the_same_bytes(record, model, folder, monkeypatch):
    undisturbed, *_ = sample_bank(record, model, name="whole", count=6)
    sampled = record.sample
    calls = []

    def stop_at_the_third_batch(*args, **kwargs):
        calls.append(kwargs["seeds"])
        if len(calls) == 3:
            raise InterruptedError
        return sampled(*args, **kwargs)

    monkeypatch.setattr(record, "sample", stop_at_the_third_batch)
    with pytest.raises(InterruptedError):
        sample_bank(record, model, name="stopped", count=6)
    monkeypatch.undo()
    kept = list(folder.glob("stopped-*/*.safetensors"))
    assert len(kept) == 2
    continued, _, folder = sample_bank(record, model, name="stopped", count=6)
    assert continued.shards[0].path.parent.name == folder
    for a, b in zip(undisturbed.shards, continued.shards, strict=True):
        assert a.path.read_bytes() == b.path.read_bytes()


def test_the_pictures_to_look_at_are_the_first_64_however_many_the_bank_holds(record, model):
    bank, latent, _ = sample_bank(record, model, count=70, batch_size=35, steps=1)
    assert len(bank) == 70
    assert torch.equal(latent["samples"], bank.select(range(10, 74)).latents())


@pytest.mark.parametrize(
    "change",
    [{"steps": 4}, {"sampler": "heun"}, {"cfg": 2.0}, {"positive": conditioning(9)}],
    ids=lambda change: next(iter(change)),
)
def test_another_recipe_is_another_bank(record, model, folder, change):
    sample_bank(record, model, count=1)
    sample_bank(record, model, count=1, **change)
    assert len(list(folder.iterdir())) == 2


def test_a_lora_or_a_patch_with_other_settings_is_another_bank(record, model, folder):
    from comfy_extras.nodes_freelunch import FreeU_V2

    lora = model.clone()
    lora.add_patches({"diffusion_model.out.2.bias": (torch.ones(4),)}, 0.5)
    variants = [model, lora] + [FreeU_V2.execute(model, b1, 1.4, 0.9, 0.2).result[0] for b1 in (1.2, 1.3)]
    for variant in variants:
        sample_bank(record, variant, count=1)
    assert len(list(folder.iterdir())) == len(variants)
    for variant in variants:
        sample_bank(record, variant, count=1)
    assert len(list(folder.iterdir())) == len(variants)


def test_another_prediction_type_or_wrapper_is_another_digest(record, model):
    from comfy_extras.nodes_model_advanced import ModelSamplingDiscrete

    variants = [model]
    for kind in ("eps", "v_prediction"):
        variants += ModelSamplingDiscrete().patch(model, kind, zsnr=False)
    for scale in (1.0, 2.0):
        wrapped = model.clone()
        wrapped.add_wrapper_with_key(
            "diffusion_model", "ours", partial(lambda run, *args, scale: run(*args), scale=scale)
        )
        variants.append(wrapped)
    digests = [record.model_digest(variant) for variant in variants]
    assert len(set(digests)) == len(digests)
    assert digests == [record.model_digest(variant) for variant in variants]


def test_a_patch_that_knows_its_own_model_has_a_digest(record, model):
    patched = model.clone()
    patched.set_model_sampler_cfg_function(lambda args: patched and args["cond"])
    assert record.model_digest(patched) != record.model_digest(model)


def test_the_digest_is_the_same_in_another_process(record, model):
    program = (
        "import sys; sys.argv = ['main.py', '--cpu']; sys.path[:0] = [{comfy!r}, {tests!r}]\n"
        "import comfy.options; comfy.options.enable_args_parsing(); import comfy.cli_args, comfy.samplers\n"
        "import importlib.util\n"
        "spec = importlib.util.spec_from_file_location('digest', {digest!r})\n"
        "digest = importlib.util.module_from_spec(spec); spec.loader.exec_module(digest)\n"
        "import models\n"
        "sampler = comfy.samplers.sampler_object('euler_ancestral')\n"
        "print(digest.model_digest(models.sd15()), digest.digest(sampler), digest.digest(models.conditioning(1)))"
    )
    import comfy.samplers

    here = Path(__file__).parents[1]
    paths = {
        "comfy": str(Path(comfy.samplers.__file__).parents[1]),
        "tests": str(here),
        "digest": str(here.parent / "nodes" / "host" / "fingerprint.py"),
    }
    output = subprocess.run([sys.executable, "-c", program.format(**paths)], capture_output=True, text=True, check=True)
    sampler = comfy.samplers.sampler_object("euler_ancestral")
    expected = [record.model_digest(model), record.digest(sampler), record.digest(conditioning(1))]
    assert output.stdout.split() == expected


def test_a_sampler_that_chooses_its_own_timesteps_is_refused_and_leaves_a_whole_bank(record, model, folder):
    with pytest.raises(ValueError, match="not dpm_adaptive"):
        sample_bank(record, model, sampler="dpm_adaptive", batch_size=1, count=3)
    assert len(list(folder.glob("*/*.safetensors"))) == 1


def test_a_bank_whose_files_are_gone_says_so(record, model, folder):
    bank, *_ = sample_bank(record, model, count=2)
    for path in folder.glob("*/*.safetensors"):
        path.unlink()
    with pytest.raises(ValueError, match="A part of the bank is gone"):
        bank.h("middle", 0)


def test_applied_weights_do_not_change_the_fingerprint(record, model):
    before = record.weights_fingerprint(model)
    lora = model.clone()
    lora.add_patches({"diffusion_model.out.2.bias": (torch.ones(4),)}, 0.5)
    lora.patch_model()
    assert record.weights_fingerprint(lora) == before
    assert record.weights_fingerprint(model) == before


def test_a_bank_knows_where_it_comes_from(record, model):
    bank, *_ = sample_bank(record, model, cfg=2.0, branch="negative")
    assert bank.source.family == "SD15"
    assert bank.source.branch == "negative"
    assert bank.source.image_size == (128, 128)


def test_a_bank_of_nothing_is_refused(record, model):
    with pytest.raises(ValueError, match="got count 0, wanted 1 or more"):
        sample_bank(record, model, count=0)


def test_a_name_out_of_the_folder_is_refused(record, model, folder):
    with pytest.raises(ValueError, match="can't be a file name"):
        sample_bank(record, model, name="../b")
    assert not list(folder.iterdir())


def test_maps_of_the_decoder_are_kept_as_means_over_a_grid_or_whole(record, model):
    banks = {grid: sample_bank(record, model, count=2, sites="middle, output.6", grid=grid)[0] for grid in (0, 4)}
    assert banks[0].shapes["output.6"][1:] == (16, 16)
    assert banks[4].shapes["output.6"][1:] == (4, 4)
    assert torch.equal(banks[0].h("middle", 1), banks[4].h("middle", 1))
    means = adaptive_avg_pool2d(banks[0].h("output.6", 1), 4)
    torch.testing.assert_close(banks[4].h("output.6", 1), means, rtol=2e-3, atol=2e-3)  # both are kept in float16
