"""Several edits in one node, and strengths that follow a curve."""

import pytest
import torch
from models import core_sample

pytestmark = pytest.mark.comfy

WINDOW = (0.0, 1.0, "both", "resize")


@pytest.fixture
def sampled(faces):
    def run(model):
        with torch.inference_mode():
            return core_sample(model, "euler", faces.sigmas(4), faces.empty, faces.empty, faces.latent, seed=3)

    return run


def stacked(faces, edits, **more):
    directions = {f"direction_{number}": direction for number, (direction, _) in enumerate(edits, 1)}
    strengths = [strength for _, strength in edits] + [1.0] * (8 - len(edits))
    node = faces.node("HSpaceInjectStack")
    return node.execute(faces.model, directions, *strengths, *WINDOW, **more).result[0]


def injected(faces, model, direction, strength, **more):
    return faces.node("HSpaceInject").execute(model, direction, strength, *WINDOW, **more).result[0]


def test_a_stack_is_a_chain_of_injections_to_the_bit(faces, sampled):
    a, b = faces.direction("a", 0), faces.direction("b", 1)
    chain = injected(faces, injected(faces, faces.model, a, 1.5), b, -0.5)
    assert torch.equal(sampled(stacked(faces, [(a, 1.5), (b, -0.5)])), sampled(chain))


def test_the_order_of_a_stack_does_not_matter(faces, sampled):
    edits = [(faces.direction("a", 0), 1.5), (faces.direction("b", 1), -0.5), (faces.direction("c", 2), 0.7)]
    one, other = (sampled(stacked(faces, order)) for order in (edits, edits[::-1]))
    torch.testing.assert_close(one, other, atol=1e-4, rtol=0)  # the same sum in another order


def test_a_stack_of_strength_zero_is_no_stack_to_the_bit(faces, sampled):
    edits = [(faces.direction("a", 0), 0.0), (faces.direction("b", 1), 0.0)]
    assert torch.equal(sampled(stacked(faces, edits)), sampled(faces.model))


def test_the_model_of_a_stack_is_left_as_it_was(faces, sampled):
    before = sampled(faces.model)
    assert not torch.equal(sampled(stacked(faces, [(faces.direction("a", 0), 3.0)])), before)
    assert torch.equal(sampled(faces.model), before)


def curve(*points):
    from comfy_api.input import CurveInput

    return CurveInput.from_raw({"points": list(points), "interpolation": "linear"})


def test_a_curve_of_one_changes_nothing_to_the_bit(faces, sampled):
    a = faces.direction("a", 0)
    for flat in (curve((0, 1), (1, 1)), {"points": [(0, 1), (1, 1)], "interpolation": "linear"}):
        assert torch.equal(
            sampled(injected(faces, faces.model, a, 1.0, curve=flat)), sampled(injected(faces, faces.model, a, 1.0))
        )


def test_a_curve_of_zero_takes_the_edit_away(faces, sampled):
    edited = injected(faces, faces.model, faces.direction("a", 0), 1.0, curve=curve((0, 0), (1, 0)))
    assert torch.equal(sampled(edited), sampled(faces.model))


def test_the_left_of_a_curve_is_noise_and_its_right_the_picture(faces, sampled):
    """A curve that falls to zero at once is the window of these percents."""
    a, steep = faces.direction("a", 0), curve((0, 1), (0.5, 1), (0.5001, 0), (1, 0))
    windowed = faces.node("HSpaceInject").execute(faces.model, a, 1.0, 0.0, 0.5, "both", "resize")
    assert torch.equal(sampled(injected(faces, faces.model, a, 1.0, curve=steep)), sampled(windowed.result[0]))


def test_a_curve_goes_for_all_edits_of_a_stack(faces, sampled):
    a, b, falling = faces.direction("a", 0), faces.direction("b", 1), curve((0, 1), (1, 0.2))
    chain = injected(faces, injected(faces, faces.model, a, 1.0, curve=falling), b, 2.0, curve=falling)
    assert torch.equal(sampled(stacked(faces, [(a, 1.0), (b, 2.0)], curve=falling)), sampled(chain))


def test_a_place_left_free_takes_its_slider_with_it(faces, sampled):
    a, c = faces.direction("a", 0), faces.direction("c", 2)
    node = faces.node("HSpaceInjectStack")
    gap = node.execute(faces.model, {"direction_1": a, "direction_3": c}, 1.0, 9.0, 0.5, *[1.0] * 5, *WINDOW).result[0]
    assert torch.equal(sampled(gap), sampled(stacked(faces, [(a, 1.0), (c, 0.5)])))
