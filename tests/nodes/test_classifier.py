"""Load Classifier: the demo's judge, and any of Hugging Face's format."""

import importlib
import json

import numpy as np
import pytest
import torch
from demo_faces import folder_of
from PIL import Image

pytestmark = pytest.mark.comfy

LABELS = ["smile", "age", "glasses"]


@pytest.fixture(scope="module")
def classifier(pack):
    importlib.import_module(f"{pack.__name__}.nodes.host.paths").register_folders()
    return importlib.import_module(f"{pack.__name__}.nodes.host.classifier")


@pytest.fixture(autouse=True)
def folder(classifier, tmp_path):
    """Classifiers are looked for in a folder of this test's own."""
    with folder_of("hspace_classifiers", tmp_path):
        yield tmp_path


def pictures(n=5, height=40, width=48):
    """`(n, height, width, 3)`, of whole 256ths, so that a PIL image holds the same."""
    generator = torch.Generator().manual_seed(3)
    blocks = torch.rand(n, height // 8, width // 8, 3, generator=generator)
    return blocks.repeat_interleave(8, 1).repeat_interleave(8, 2).mul(255).round() / 255


def save_resnet(folder, problem_type=None, num_labels=3, safe=True, **processing):
    """A tiny ResNet with random weights, as Hugging Face saves it."""
    from transformers import ResNetConfig, ResNetForImageClassification, ViTImageProcessor

    labels = dict(enumerate(LABELS[:num_labels]))
    config = ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], num_labels=num_labels, problem_type=problem_type,
        id2label=labels, label2id={label: i for i, label in labels.items()},
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = ResNetForImageClassification(config)
    network.classifier[1].weight.data *= 8  # so that the pictures get different scores
    folder.mkdir()
    if safe:
        network.save_pretrained(folder)
    else:
        network.config.save_pretrained(folder)
        torch.save(network.state_dict(), folder / "pytorch_model.bin")
    ViTImageProcessor(size={"height": 32, "width": 32}, **processing).save_pretrained(folder)
    return folder


def pipeline_scores(folder, images, labels=LABELS):
    """What transformers' own pipeline says about the same pixels, `(n, m)`."""
    from transformers import pipeline

    judge = pipeline("image-classification", model=str(folder), device="cpu")
    answers = judge([Image.fromarray(np.uint8(image.numpy() * 255 + 0.5)) for image in images], top_k=len(labels))
    rows = [{entry["label"]: entry["score"] for entry in answer} for answer in answers]
    return torch.tensor([[row[label] for label in labels] for row in rows])


def test_the_demo_classifier_says_what_its_network_says(nodes_of_pack, pack, classifier):
    attributes = importlib.import_module(f"{pack.__name__}.demo.attributes")
    network = attributes.AttributeClassifier.load(classifier.DEMO_CLASSIFIER_FOLDER)
    images = torch.rand(6, 64, 64, 3, generator=torch.Generator().manual_seed(0))
    loaded, columns = nodes_of_pack.HSpaceLoadClassifier.execute("demo attributes (built in)").result
    assert loaded.columns == network.attributes
    assert columns == ", ".join(network.attributes)
    torch.testing.assert_close(loaded.scores(images), network.scores(images.permute(0, 3, 1, 2) * 2 - 1))


def test_the_demo_classifier_takes_pictures_of_any_size_and_ignores_alpha(classifier):
    judge = classifier.load_classifier("demo attributes (built in)")
    images = torch.rand(2, 8, 8, 3, generator=torch.Generator().manual_seed(0))
    images = images.repeat_interleave(8, 1).repeat_interleave(8, 2)
    larger = images.repeat_interleave(2, 1).repeat_interleave(2, 2)
    # halving blurs the edges of the blocks by a quarter pixel; the scores' range is about 1
    torch.testing.assert_close(judge.scores(larger), judge.scores(images), atol=0.2, rtol=0)
    assert torch.equal(judge.scores(torch.cat([images, images[..., :1]], -1)), judge.scores(images))


@pytest.mark.parametrize(
    "problem_type", [None, "single_label_classification", "multi_label_classification", "regression"]
)
def test_a_hugging_face_classifier_says_what_a_pipeline_says(nodes_of_pack, classifier, folder, problem_type):
    saved = save_resnet(folder / "tiny", problem_type)
    judge, columns = nodes_of_pack.HSpaceLoadClassifier.execute("tiny").result
    expected = pipeline_scores(saved, pictures())
    assert columns == "smile, age, glasses"
    assert expected.std(0).max() > 0.01  # else any constant would do
    # float32 in a batch of another size
    torch.testing.assert_close(judge.scores(pictures()), expected, atol=1e-5, rtol=1e-4)


def test_a_classifier_of_one_thing_says_its_probability(classifier, folder):
    saved = save_resnet(folder / "tiny", num_labels=1)
    judge = classifier.load_hugging_face(saved)
    expected = pipeline_scores(saved, pictures(), LABELS[:1])
    assert expected.std() > 0.01
    torch.testing.assert_close(judge.scores(pictures()), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    "processing", [{"rescale_factor": 1 / 127.5}, {"do_rescale": False}, {"do_resize": False}], ids=str
)
def test_pictures_are_prepared_as_the_classifiers_own_settings_say(classifier, folder, processing):
    saved = save_resnet(folder / "tiny", "regression", **processing)  # raw scores, which don't saturate
    expected = pipeline_scores(saved, pictures())
    assert (expected.std(0) > 0.01).all()
    scores = classifier.load_hugging_face(saved).scores(pictures())
    torch.testing.assert_close(scores, expected, atol=1e-5, rtol=1e-4)


def test_weights_that_may_hold_code_are_refused(nodes_of_pack, classifier, folder):
    save_resnet(folder / "tiny", safe=False)
    with pytest.raises(ValueError, match=r"no safetensors: got config.json, .*pytorch_model.bin, wanted model.saf"):
        nodes_of_pack.HSpaceLoadClassifier.execute("tiny")


def test_a_folder_that_transformers_cannot_read_is_refused_with_its_name(nodes_of_pack, classifier, folder):
    saved = save_resnet(folder / "tiny")
    config = json.loads((saved / "config.json").read_text())
    (saved / "config.json").write_text(json.dumps(config | {"model_type": "unheard_of", "architectures": None}))
    with pytest.raises(ValueError, match="can't load the classifier tiny"):
        nodes_of_pack.HSpaceLoadClassifier.execute("tiny")
    (saved / "config.json").write_text(json.dumps(config))
    (saved / "model.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0notjson!")
    with pytest.raises(ValueError, match="can't load the classifier tiny"):
        nodes_of_pack.HSpaceLoadClassifier.execute("tiny")


def test_a_name_that_is_not_in_the_list_is_refused(nodes_of_pack, classifier, folder):
    save_resnet(folder / "tiny")
    outside = folder / "tiny" / ".." / "tiny"
    assert (outside / "config.json").exists()
    for name in ("../x", "tiny/../tiny", str(outside)):
        with pytest.raises(ValueError, match="wanted one of: demo attributes .built in., tiny"):
            nodes_of_pack.HSpaceLoadClassifier.execute(name)


def rewrite_weights(path, change):
    from safetensors.torch import load_file, save_file

    save_file(change(load_file(path)), path, {"format": "pt"})


def test_a_network_that_was_never_trained_to_classify_is_refused(nodes_of_pack, classifier, folder):
    path = save_resnet(folder / "tiny") / "model.safetensors"
    rewrite_weights(path, lambda weights: {k: v for k, v in weights.items() if not k.startswith("classifier")})
    with pytest.raises(ValueError, match="tiny is no whole classifier: got no weights for classifier.1.bias"):
        nodes_of_pack.HSpaceLoadClassifier.execute("tiny")


def test_weights_of_another_size_are_refused_with_the_folders_name(nodes_of_pack, classifier, folder):
    path = save_resnet(folder / "tiny") / "model.safetensors"
    rewrite_weights(path, lambda weights: weights | {"classifier.1.bias": torch.zeros(4)})
    with pytest.raises(ValueError, match="can't load the classifier tiny"):
        nodes_of_pack.HSpaceLoadClassifier.execute("tiny")


def test_a_classifier_can_be_unloaded_and_used_again(classifier, folder):
    import comfy.model_management

    judge = classifier.load_hugging_face(save_resnet(folder / "tiny"))
    before = judge.scores(pictures())
    comfy.model_management.unload_all_models()
    assert torch.equal(judge.scores(pictures()), before)
