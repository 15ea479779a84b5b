"""Nodes that differentiate, on a device whose memory ends at a certain place: they take the cheaper way, or say what to
do. Nothing of the graph is left, and the next run makes what the first would have made."""

import gc
import weakref
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch
from differentiating import LATENT, found_jacobian, learnt_from_words, learnt_under, objective, tiny_vae
from models import conditioning, sd15, sigmas

pytestmark = pytest.mark.comfy


class Full:
    """A hook on a module that ends ComfyUI's memory at some of its calls in a graph, or at their way back.

    Lives for one run.
    """

    def __init__(self, *, calls: set[int] | None = None, largest: int | None = None, backward: bool = False):
        self.calls, self.largest, self.backward = calls, largest, backward
        self.count, self.raised, self.seen = 0, 0, []

    def __call__(self, module, args, out):
        if not torch.is_tensor(out) or not out.requires_grad:
            return
        self.seen.append(weakref.ref(out))
        if self.backward:
            out.register_hook(lambda gradient: self.end(len(gradient)))
        else:
            self.end(len(out))

    def end(self, pictures: int) -> None:
        from comfy.model_management import OOM_EXCEPTION

        self.count += 1
        by_number = self.calls is None or self.count in self.calls
        if by_number and (self.largest is None or pictures > self.largest):
            self.raised += 1
            raise OOM_EXCEPTION("no more")


@contextmanager
def full(module, **how):
    """The module's device is full like this. It has to come to that, and no graph may be left afterwards."""
    hook = Full(**how)
    handle = module.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()
    assert hook.raised
    gc.collect()
    assert not any(ref() is not None for ref in hook.seen)


def refused(run):
    """It ends in a sentence."""
    with pytest.raises(ValueError, match="Use smaller pictures, fewer at once"):
        run()


def first_layer(model):
    """Of the decoder."""
    return model.model.diffusion_model.output_blocks[0][0]


def last_layer(model):
    return model.model.diffusion_model.out


class TestJacobian:
    @pytest.fixture(scope="class")
    @classmethod
    def model(cls):
        return sd15()

    @pytest.fixture(scope="class")
    @classmethod
    def find(cls, faces, model):
        return lambda: found_jacobian(faces, model)[0]

    @pytest.mark.parametrize("place", ["the first layer", "the last layer", "the second graph"])
    def test_where_both_graphs_do_not_fit_one_does(self, find, model, place):
        wanted = find()
        module = first_layer(model) if place == "the first layer" else last_layer(model)
        with full(module, calls={1}, backward=place == "the second graph"):
            found = find()
        torch.testing.assert_close(found, wanted, rtol=0, atol=2e-3 * float(wanted.abs().max()))  # the search's own
        assert torch.equal(find(), wanted)

    @pytest.mark.parametrize(
        ("what", "how"),
        [
            ("either graph", {}),
            ("a product of one graph", {"backward": True}),
            ("the fifth product of both graphs", {"backward": True, "calls": {5}}),
        ],
    )
    def test_where_there_is_no_cheaper_way_it_says_what_to_do(self, find, model, what, how):
        wanted = find()
        with full(last_layer(model), **how):
            refused(find)
        assert torch.equal(find(), wanted)


class TestLearnDirection:
    @pytest.fixture(scope="class")
    @classmethod
    def model(cls):
        return sd15()

    @pytest.fixture(scope="class")
    @classmethod
    def vae(cls):
        return tiny_vae()

    @pytest.fixture(scope="class")
    @classmethod
    def wanted_by(cls, faces):
        """CLIP's own loss is of a difference that float error is 1e-3 of."""
        return replace(objective(faces), loss=lambda edited, plain, spread, end: (edited - 1).square().sum(1))

    @pytest.fixture
    def learn(self, faces, model, vae, wanted_by):
        """With keep 0: its gradient is the sign of differences that are float error at first."""
        return lambda: learnt_under(faces, model, vae, wanted_by, count=8, keep=0.0, batch_size=4)

    @pytest.fixture
    def places(self, model, vae, wanted_by):
        return {
            "decoder": last_layer(model),
            "VAE": vae.first_stage_model.taesd_decoder[-1],
            "judge": wanted_by.patcher.model.vision_model.post_layernorm,
        }

    def test_only_the_side_of_the_guidance_that_is_learnt_has_a_graph(self, learn, places):
        """Of a call of both sides' four pictures each."""
        sizes = set()
        handle = places["decoder"].register_forward_hook(
            lambda module, args, out: sizes.add((out.requires_grad, len(out)))
        )
        learn()
        handle.remove()
        assert {size for graph, size in sizes if graph} == {4} and (False, 8) in sizes

    @pytest.mark.parametrize("backward", [False, True])
    @pytest.mark.parametrize("largest", [1, 2])
    @pytest.mark.parametrize("place", ["decoder", "VAE", "judge"])
    def test_pictures_that_do_not_fit_are_learnt_from_in_parts(self, learn, places, place, largest, backward):
        wanted = learn()
        with full(places[place], largest=largest, backward=backward):
            learnt = learn()
        # float error is up to 6e-4 of the gradient, which Adam divides by its own size
        torch.testing.assert_close(learnt, wanted, rtol=0, atol=2e-2 * float(wanted.abs().max()))

    def test_what_does_not_fit_once_does_in_parts(self, learn, places):
        wanted = learn()
        with full(places["decoder"], calls={3}):
            learnt = learn()
        torch.testing.assert_close(learnt, wanted, rtol=0, atol=2e-2 * float(wanted.abs().max()))

    def test_the_gradient_of_parts_is_that_of_the_whole(self, faces, model, vae, wanted_by):
        steps, trainers = (faces.module(f"nodes.host.{name}") for name in ("train_step", "trainer"))
        compared = []

        class Compared(steps.TrainStep):
            def __call__(self, step, split_unet, branched):
                def learnt(size):
                    parts = [slice(first, first + size) for first in range(0, 4, size)]
                    seen = [self._learnt(step, 0, split_unet, branched, part) for part in parts]
                    return sum(loss for _, loss, _ in seen), sum(gradient for *_, gradient in seen)

                compared.append([learnt(size) for size in (4, 2, 1)])
                return super().__call__(step, split_unet, branched)

        run = dict(positive=conditioning(1), negative=conditioning(2), cfg=3.0, sampler=faces.euler, latent=LATENT)
        with torch.inference_mode():
            trainer = trainers.Trainer(
                model, {**run, "sigmas": sigmas(model, 2)}, vae, wanted_by, range(50, 54), 4, "positive", 2, "middle"
            )
            baseline = trainer.measure_baseline()
            with torch.inference_mode(False):
                learner = faces.directions.Learner(baseline.shape, baseline.scale_over("constant"), 0.02)
            trainer._sample(
                Compared(learner, wanted_by, vae, baseline, [0, 1, 2, 3], 0.0), range(50, 54), learning=True
            )
        assert len(compared) == 2
        for (loss, gradient), *others in compared:
            for other, of_parts in others:
                assert other == pytest.approx(loss, rel=1e-5)
                assert (of_parts - gradient).norm() < 5e-3 * gradient.norm()  # float error, of a random CLIP

    @pytest.mark.parametrize("place", ["decoder", "VAE", "judge"])
    def test_where_not_even_one_picture_fits_it_says_what_to_do(self, learn, places, place):
        wanted = learn()
        with full(places[place]):
            refused(learn)
        assert torch.equal(learn(), wanted)


class TestLearnFromWords:
    @pytest.fixture(scope="class")
    @classmethod
    def model(cls):
        return sd15()

    @pytest.fixture
    def learn(self, faces, model, tmp_path):
        return lambda: learnt_from_words(faces, model, tmp_path / "learning")

    @pytest.mark.parametrize("backward", [False, True])
    def test_where_both_graphs_do_not_fit_one_does(self, learn, model, backward):
        wanted = learn()
        with full(last_layer(model), calls={1}, backward=backward):
            learnt = learn()
        torch.testing.assert_close(learnt, wanted, rtol=0, atol=1e-3 * float(wanted.abs().max()))  # two ways to J v
        assert torch.equal(learn(), wanted)

    @pytest.mark.parametrize("how", [{}, {"backward": True}, {"backward": True, "calls": {4}}])
    def test_where_there_is_no_cheaper_way_it_says_what_to_do(self, learn, model, how):
        wanted = learn()
        with full(last_layer(model), **how):
            refused(learn)
        assert torch.equal(learn(), wanted)
