"""The translations: complete, in step with the nodes' English, and with one word for one thing."""

import asyncio
import json
import re
from collections import Counter
from pathlib import Path

import pytest

pytestmark = pytest.mark.comfy

ROOT = Path(__file__).resolve().parents[2]
LOCALES = ROOT / "locales"
LANGUAGE = "zh"
CJK = re.compile(r"[\u4e00-\u9fff]")
NUMBER = re.compile(r"\d+(?:\.\d+)?")
QUOTED = re.compile(r'"([^"]+)"')
# A path, a file, an identifier, an abbreviation: UNet, SD1.x, clip_l.safetensors, models/diffusers.
LITERAL = re.compile(r"[\w-]*(?:[_/]|\.\w|[A-Z][\w-]*[A-Z])[\w./-]*\w")
SAME_IN_EVERY_LANGUAGE = {"vae", "VAE", "clip", "cfg", "CSV", "Latent", "Sigmas"}
# Kept out: vue-i18n, which reads names and descriptions, takes them for its own marks.
MARKS = "{}@|"


def read(name: str) -> dict:
    return json.loads((LOCALES / LANGUAGE / name).read_text(encoding="utf-8"))


def flat(entry: dict, path: str = "") -> dict[str, str]:
    """{"inputs.seed.name": "Seed", ...} of nested dictionaries."""
    leaves = {}
    for key, value in entry.items():
        leaves |= flat(value, f"{path}{key}.") if isinstance(value, dict) else {f"{path}{key}": value}
    return leaves


def inputs(info: dict) -> dict[str, tuple]:
    return flat_inputs(info["input"])


def flat_inputs(groups: dict, prefix: str = "") -> dict[str, tuple]:
    """Each input with its spec by the name that translations go by: `source_text` of a dynamic combo's option text."""
    found = {}
    for id, (kind, options) in [*groups.get("required", {}).items(), *groups.get("optional", {}).items()]:
        found[prefix + id] = kind, options
        if kind == "COMFY_DYNAMICCOMBO_V3":
            chosen = [option["key"] for option in options["options"]]
            found[prefix + id] = kind, {**options, "options": chosen}
            for option in options["options"]:
                found |= flat_inputs(option["inputs"], f"{prefix}{id}_")
    return found


def english(info: dict) -> dict[str, str]:
    """What the page shows of a node where there is no translation, by the keys of nodeDefs.json."""
    texts = {"display_name": info["display_name"], "description": info["description"]}
    for name, (_, options) in inputs(info).items():
        texts[f"inputs.{name}.name"] = options.get("display_name") or name
        texts[f"inputs.{name}.tooltip"] = options.get("tooltip")
    for i, (name, tooltip) in enumerate(zip(info["output_name"], info["output_tooltips"], strict=True)):
        texts |= {f"outputs.{i}.name": name, f"outputs.{i}.tooltip": tooltip}
    return {key: text for key, text in texts.items() if text}


def options_in(text: str, info: dict, key: str) -> list[str]:
    """The values of the combo at `key` that its tooltip explains."""
    part, _, name = key.rpartition(".")
    spec = inputs(info).get(part.removeprefix("inputs."), (None, {})) if name == "tooltip" else (None, {})
    return [option for option in spec[1].get("options") or () if has_word(option, text)]


def has_word(word: str, text: str) -> bool:
    """Whether `word` or its plural is in `text`, but not as a part of a path or of a compound."""
    return re.search(rf"(?<![\w/-]){re.escape(word)}(?:s|es)?(?![\w/-]|\.\w)", text) is not None


def without(text: str, words: list[str]) -> str:
    for word in sorted(words, key=len, reverse=True):
        text = text.replace(word, " ")
    return text


@pytest.fixture(scope="module")
def infos(pack) -> dict[str, dict]:
    """What the server says of every node, in English."""

    async def load():
        extension = await pack.comfy_entrypoint()
        await extension.on_load()
        return await extension.get_node_list()

    return {node.GET_SCHEMA().node_id: node.GET_NODE_INFO_V1() for node in asyncio.run(load())}


@pytest.fixture(scope="module")
def translated() -> dict[str, dict[str, str]]:
    return {node: flat(entry) for node, entry in read("nodeDefs.json").items()}


@pytest.fixture(scope="module")
def pairs(infos, translated) -> list[tuple[str, str, str, str]]:
    """(node, key, English, translation) of every text that has both."""
    return [
        (node, key, text, translated[node][key])
        for node in infos.keys() & translated.keys()
        for key, text in english(infos[node]).items()
        if key in translated[node]
    ]


@pytest.fixture(scope="module")
def glossary() -> dict[str, list[str]]:
    rows = re.findall(r"^\| (.+) \| (.+) \|$", (LOCALES / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    return {term: words.split(" / ") for term, words in rows if term != "English"}


def test_every_text_of_every_node_is_translated_and_nothing_else(infos, translated):
    assert sorted(translated) == sorted(infos)
    problems = {node: english(info).keys() ^ translated[node].keys() for node, info in infos.items()}
    assert not {node: sorted(keys) for node, keys in problems.items() if keys}


def test_every_category_is_translated(infos):
    parts = {part for info in infos.values() for part in info["category"].split("/")}
    categories = read("main.json")["nodeCategories"]
    assert categories.keys() == parts
    assert all(CJK.search(name) for name in categories.values())


def test_nothing_is_empty_or_left_in_english(pairs):
    assert not [row for row in pairs if not CJK.search(row[3]) and row[3] not in SAME_IN_EVERY_LANGUAGE]
    assert not [row for row in pairs if row[3] != row[3].strip() or set(row[3]) & set(MARKS)]


def test_tooltips_with_the_same_english_have_the_same_translation(pairs):
    translations: dict[str, set[str]] = {}
    for _, key, text, translation in pairs:
        if key.endswith("tooltip"):
            translations.setdefault(text, set()).add(translation)
    assert not {text: words for text, words in translations.items() if len(words) > 1}


def test_the_glossary_is_kept(infos, pairs, glossary):
    problems = []
    for node, key, text, translation in pairs:
        prose = QUOTED.sub(" ", without(text, options_in(text, infos[node], key)))
        prose = text.replace("_", " ") if key.endswith(".name") else LITERAL.sub(" ", prose)
        for term, words in glossary.items():
            if has_word(term.lower(), prose.lower()) and not any(word in translation for word in words):
                problems.append((node, key, term))
    assert not problems


def test_every_row_of_the_glossary_is_needed(pairs, glossary):
    everything = " ".join(text.replace("_", " ") for *_, text, _ in pairs).lower()
    assert not [term for term in glossary if not has_word(term.lower(), everything)]


def test_numbers_options_quotations_and_identifiers_are_the_same(infos, pairs):
    ids = {name for info in infos.values() for name in inputs(info)} | {
        name for info in infos.values() for name in info["output_name"]
    }
    problems = []
    for node, key, text, translation in pairs:
        if key.endswith(".name"):
            continue
        kept = [*options_in(text, infos[node], key), *QUOTED.findall(text)]
        kept += [word for word in LITERAL.findall(text) if word not in ids and not re.fullmatch(r"[\d./-]+", word)]
        problems += [(node, key, word) for word in kept if word not in translation]
        if Counter(NUMBER.findall(text)) != Counter(NUMBER.findall(translation)):
            problems.append((node, key, "numbers"))
    assert not problems


def test_nodes_and_inputs_are_called_by_their_translated_names(infos, pairs, translated):
    titles = {infos[node]["display_name"]: texts["display_name"] for node, texts in translated.items()}
    names: dict[str, set[str]] = {}
    for node, texts in translated.items():
        for name in inputs(infos[node]):
            names.setdefault(name, set()).add(texts.get(f"inputs.{name}.name", name))
    problems = []
    for node, key, text, translation in pairs:
        if key.endswith("name"):
            continue
        problems += [(node, key, title) for title in titles if title in text and titles[title] not in translation]
        called = [name for name in names if "_" in name and has_word(name, text)]
        problems += [(node, key, name) for name in called if not any(word in translation for word in names[name])]
    assert not problems


def test_comfyui_serves_the_translations(tmp_path, monkeypatch):
    import folder_paths
    from app.custom_node_manager import CustomNodeManager

    (tmp_path / "h-space Directions").symlink_to(ROOT, target_is_directory=True)
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "custom_nodes", ([str(tmp_path)], set()))
    served = CustomNodeManager().build_translations()
    assert served == {LANGUAGE: {**read("main.json"), "nodeDefs": read("nodeDefs.json")}}
