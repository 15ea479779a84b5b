"""Names that a workflow brings along: none leads out of the pack's folders, on saving or on loading."""

import importlib
import json
import os
import unicodedata

import pytest
from demo_faces import folder_of, node_classes
from planted import bank as planted_bank
from planted import direction, trajectories

from directions import load_direction, open_bank, safe_path, save_direction

OUT = ["..", "../smile", "a/../../smile", "a/..", "./smile", "/etc/smile", "//host/smile", "C:/smile", "C:smile",
       "\\\\host\\smile", "..\\smile", "a\\b", "file:smile", "smile:stream", "a//b", "a/", "/", "."]  # fmt: skip
DEVICES = ["con", "NUL", "nul.x", "a/prn", "aux ", "COM1", "lpt9.txt", "com\N{SUPERSCRIPT ONE}", "con .x",
           "\N{FULLWIDTH LATIN SMALL LETTER C}\N{FULLWIDTH LATIN SMALL LETTER O}n"]  # fmt: skip
DOTS_AND_SLASHES = [
    "\N{FULLWIDTH FULL STOP}\N{FULLWIDTH FULL STOP}", "\N{ONE DOT LEADER}\N{ONE DOT LEADER}/x", "\N{TWO DOT LEADER}",
    "..\N{FULLWIDTH SOLIDUS}x", "a\N{FULLWIDTH SOLIDUS}b", "a\N{FULLWIDTH REVERSE SOLIDUS}b",
    "a\N{SMALL REVERSE SOLIDUS}b",
    "smile\N{HORIZONTAL ELLIPSIS}",
]  # fmt: skip
UNSEEN = [
    "a\N{RIGHT-TO-LEFT OVERRIDE}b", "a\N{RIGHT-TO-LEFT ISOLATE}b", "a\N{RIGHT-TO-LEFT MARK}b", "a\N{ZERO WIDTH SPACE}b",
    "a\N{ZERO WIDTH JOINER}b", "a\N{WORD JOINER}b", "\N{ZERO WIDTH NO-BREAK SPACE}a", "a\N{SOFT HYPHEN}b", "\u2800",
    "a\N{HANGUL FILLER}b", "a\N{COMBINING GRAPHEME JOINER}b", "a\N{LINE SEPARATOR}b", "a\0b", "a\nb", "a\x7fb",
    "a\x9bb", "a\ud800b", "a\N{TAG LATIN SMALL LETTER A}b",
]  # fmt: skip
ENDS = ["smile.", "smile..", ".smile", "a./b", "a /b", "a/ b", " smile", "smile ", "smile\N{NO-BREAK SPACE}",
        "\N{IDEOGRAPHIC SPACE}smile", "a\N{FULLWIDTH FULL STOP}"]  # fmt: skip
TWINS = ["cafe\N{COMBINING ACUTE ACCENT}", "\N{ANGSTROM SIGN}", "a/u\N{COMBINING DIAERESIS}"]
LONG = ["x" * 101, "x" * 100_000, "/".join(["x" * 50] * 6), "/".join("x" * 3000), "\N{CJK UNIFIED IDEOGRAPH-9577}" * 40]
FAMILIES = (OUT, DEVICES, DOTS_AND_SLASHES, UNSEEN, ENDS, TWINS, LONG)
HOSTILE = [name for family in FAMILIES for name in family]
SOME = HOSTILE if "FUZZ_INPUTS" in os.environ else [name for family in FAMILIES for name in family[::4]]
"""What is tried through every node, each of which asks the same function: `make test-slow` tries all."""
HARMLESS = [
    "smile", "people/smile", "people/young/smile", "smile (2)", "v1.2", "a.b.c", "smile-50%", "~smile", "-smile",
    "$HOME", "gr\xf6\xdfer", "\N{CJK UNIFIED IDEOGRAPH-7B11}\N{FULLWIDTH QUESTION MARK}", "control", "com10", "nullify",
    "\u0646\u0645\u0627", "smile 1\N{FRACTION SLASH}2", "a\N{SET MINUS}b", "CONIN$", "\N{FULLWIDTH LEFT PARENTHESIS}2",
    "smile \N{MULTIPLICATION SIGN} 2", "\N{GRINNING FACE}", "\N{HEAVY BLACK HEART}\N{VARIATION SELECTOR-16}", "x" * 100,
]  # fmt: skip


def shown(name):
    return ascii(name)[:40]


def everything(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


@pytest.mark.parametrize("name", ["", *HOSTILE], ids=shown)
def test_a_hostile_name_is_refused(tmp_path, name):
    with pytest.raises(ValueError, match="can't be a file name: got .*Use letters|wanted at most 240") as refused:
        safe_path(tmp_path, name)
    assert type(refused.value) is ValueError and len(str(refused.value)) < 2000


@pytest.mark.parametrize("name", HARMLESS, ids=shown)
def test_a_name_of_people_is_kept_to_the_letter(tmp_path, name):
    assert safe_path(tmp_path, name) == tmp_path / f"{name}.safetensors"


def linked(tmp_path):
    """A folder with links out of it, and what they lead to."""
    root, outside = tmp_path / "root", tmp_path / "outside"
    root.mkdir()
    outside.mkdir()
    save_direction(direction(), outside / "secret.safetensors")
    (root / "folder").symlink_to(outside)
    (root / "file.safetensors").symlink_to(outside / "secret.safetensors")
    (root / "nothing.safetensors").symlink_to(outside / "new.safetensors")
    (root / "circle.safetensors").symlink_to(root / "circle.safetensors")
    return root, outside


LINKS = ["folder/secret", "folder/new", "folder/deep/new", "file", "nothing", "circle"]


@pytest.mark.parametrize("name", LINKS)
def test_a_link_out_of_the_folder_is_refused(tmp_path, name):
    root, _ = linked(tmp_path)
    with pytest.raises(ValueError, match="leads out of root"):
        safe_path(root, name)


def test_a_link_that_stays_inside_is_followed(tmp_path):
    (tmp_path / "people").mkdir()
    (tmp_path / "friends").symlink_to(tmp_path / "people")
    assert safe_path(tmp_path, "friends/smile") == tmp_path / "friends" / "smile.safetensors"


def test_a_link_under_the_temporary_name_is_not_written_through(tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / ".smile.safetensors.partial").symlink_to(victim)
    save_direction(direction(), tmp_path / "smile.safetensors")
    assert victim.read_text() == "precious"
    assert load_direction(tmp_path / "smile.safetensors") == direction()


def test_a_shard_that_is_a_link_out_of_the_bank_is_refused(tmp_path):
    h, _ = trajectories(4)
    planted_bank(tmp_path / "here", h[:2])
    elsewhere = planted_bank(tmp_path / "there", h, order=[2, 3]).shards[0].path
    (tmp_path / "here" / elsewhere.name).symlink_to(elsewhere)
    with pytest.raises(ValueError, match=f"{elsewhere.name} is a link out of the bank here"):
        open_bank(tmp_path / "here")


# Through the nodes, in ComfyUI's folders


@pytest.fixture
def nodes(host, pack):
    importlib.import_module(f"{pack.__name__}.nodes.host.paths").register_folders()
    return node_classes(pack)


@pytest.fixture
def models(tmp_path):
    """ComfyUI's folder of directions is one with links out of it."""
    import folder_paths

    root, outside = linked(tmp_path)
    with folder_of("hspace_directions", root):
        folder_paths.folder_names_and_paths["hspace_directions"] = ([str(root)], {".safetensors"})
        folder_paths.filename_list_cache.pop("hspace_directions", None)
        yield root, outside
    folder_paths.filename_list_cache.pop("hspace_directions", None)


@pytest.fixture
def packs_direction(pack):
    """One of the class that the nodes know, which is not the tests' own."""
    theirs = importlib.import_module(f"{pack.__name__}.directions")
    ours = direction()
    source = theirs.Source("DDPM", "0", "positive", (64, 64))
    return theirs.Direction(ours.deltas, ours.timesteps, "smile", "planted", "one", source, "{}")


@pytest.mark.comfy
@pytest.mark.parametrize("name", [*(name for name in SOME if name == name.strip()), *LINKS], ids=shown)
def test_save_direction_writes_nowhere_under_a_hostile_name(nodes, models, packs_direction, tmp_path, name):
    before = everything(tmp_path)
    with pytest.raises(ValueError, match="can't be a file name|leads out of"):
        nodes.HSpaceSaveDirection.execute(packs_direction, name, True)
    assert everything(tmp_path) == before


@pytest.mark.comfy
@pytest.mark.parametrize("own", ["../smile", "/etc/smile", "..\\smile", "a\N{RIGHT-TO-LEFT OVERRIDE}b", "con", ".."])
def test_the_name_in_a_strangers_file_does_not_choose_another_place(nodes, models, packs_direction, tmp_path, own):
    before = everything(tmp_path)
    try:
        nodes.HSpaceSaveDirection.execute(packs_direction.renamed(own), "", False)
    except ValueError:
        assert everything(tmp_path) == before
    else:
        assert everything(tmp_path) == sorted([*before, "root/smile.safetensors"])


@pytest.mark.comfy
@pytest.mark.parametrize("ending", ["", ".safetensors"])
@pytest.mark.parametrize("name", [*SOME, "../outside/secret", "folder/../../outside/secret", "circle"], ids=shown)
def test_load_direction_reads_nothing_under_a_hostile_name(nodes, models, name, ending):
    node = nodes.HSpaceLoadDirection
    if name != "circle":  # ComfyUI lists what is there, also what can't be read
        assert isinstance(node.validate_inputs(name + ending), str)
    with pytest.raises((ValueError, FileNotFoundError, OSError)):
        node.execute(name + ending)


@pytest.mark.comfy
def test_a_name_in_another_unicode_form_is_another_name(nodes, models, packs_direction):
    node = nodes.HSpaceLoadDirection
    nodes.HSpaceSaveDirection.execute(packs_direction, "caf\xe9", False)
    assert node.validate_inputs("caf\xe9.safetensors") is True
    assert node.execute("caf\xe9.safetensors").result[0].name == "caf\xe9"
    twin = unicodedata.normalize("NFD", "caf\xe9.safetensors")
    assert isinstance(node.validate_inputs(twin), str)
    with pytest.raises(FileNotFoundError):
        node.execute(twin)


@pytest.mark.comfy
@pytest.mark.parametrize("name", ["folder/secret.safetensors", "file.safetensors"])
def test_load_direction_refuses_a_link_out_of_the_folder(nodes, models, name):
    with pytest.raises(ValueError, match="leads out of"):
        nodes.HSpaceLoadDirection.execute(name)


@pytest.mark.comfy
@pytest.mark.parametrize("name", ["", *SOME], ids=shown)
def test_a_bank_is_kept_in_the_banks_folder_or_refused(host, nodes, tmp_path, name):
    with folder_of("hspace_banks", tmp_path / "banks") as root:
        try:
            folder = host.bank_folder(name, "recipe")
        except ValueError as error:
            assert "can't be a file name" in str(error)
        else:
            assert folder.resolve().is_relative_to(root) and folder != root
            assert safe_path(root, folder.relative_to(root).as_posix(), suffix="") == folder


@pytest.mark.comfy
def test_a_bank_that_is_a_link_out_of_the_folder_is_refused(host, nodes, tmp_path):
    with folder_of("hspace_banks", tmp_path / "banks") as root:
        root.mkdir()
        host.bank_folder("faces", "recipe").symlink_to(tmp_path)
        with pytest.raises(ValueError, match="leads out of banks"):
            host.bank_folder("faces", "recipe")


@pytest.mark.comfy
@pytest.mark.parametrize("name", ["", *SOME], ids=shown)
def test_a_model_a_classifier_and_a_score_file_are_found_in_a_list_alone(nodes, tmp_path, name):
    for key in ("diffusers", "hspace_classifiers", "hspace_banks"):
        (tmp_path / key).mkdir()
    with (
        folder_of("diffusers", tmp_path / "diffusers"),
        folder_of("hspace_classifiers", tmp_path / "hspace_classifiers"),
        folder_of("hspace_banks", tmp_path / "hspace_banks"),
    ):
        for call in (
            nodes.HSpaceLoadDDPM.execute,
            nodes.HSpaceLoadDDPM.fingerprint_inputs,
            nodes.HSpaceLoadClassifier.execute,
            lambda name: nodes.HSpaceScorePictures.execute(None, {"source": "file", "file": name}),
            lambda name: nodes.HSpaceScorePictures.fingerprint_inputs(None, {"source": "file", "file": name}),
        ):
            with pytest.raises(ValueError, match=r"(?s)got .*wanted one of"):
                call(name)


@pytest.mark.comfy
def test_what_is_no_file_is_not_listed_and_does_not_stop_the_list(host, nodes, tmp_path):
    (tmp_path / "scores.csv").write_text("seed,smile\n1,2\n")
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "circle.csv").symlink_to(tmp_path / "circle.csv")
    (tmp_path / "nothing.json").symlink_to(tmp_path / "gone.json")
    os.mkfifo(tmp_path / "pipe.csv")
    (tmp_path / "model").mkdir()
    os.mkfifo(tmp_path / "model" / "config.json")
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "config.json").write_text("[" * 200_000)
    with (
        folder_of("hspace_banks", tmp_path),
        folder_of("hspace_classifiers", tmp_path),
        folder_of("diffusers", tmp_path),
    ):
        assert list(host.score_files()) == ["deep/config.json", "scores.csv"]
        assert list(host.classifier_folders()) == [host.DEMO_CLASSIFIER, "deep"]
        assert list(host.model_folders()) == [host.DEMO_MODEL]
        with pytest.raises(ValueError, match="can't load the classifier deep|no safetensors"):
            nodes.HSpaceLoadClassifier.execute("deep")


@pytest.mark.comfy
def test_a_model_folder_may_be_a_link_as_hugging_faces_cache_is_made_of_them(host, nodes, tmp_path):
    (tmp_path / "cache" / "model").mkdir(parents=True)
    (tmp_path / "cache" / "model" / "config.json").write_text(json.dumps({"_class_name": "UNet2DModel"}))
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "faces").symlink_to(tmp_path / "cache" / "model")
    with folder_of("diffusers", tmp_path / "models"), folder_of("hspace_classifiers", tmp_path / "models"):
        assert "faces" in host.model_folders() and "faces" in host.classifier_folders()
