"""What a graph keeps, counted and against what torch allocates; and work in parts."""

import gc

import pytest
import torch
from differentiating import cut
from lent_weights import WAYS, lend_weights
from models import conditioning, sd15
from torch.profiler import ProfilerActivity, profile

pytestmark = pytest.mark.comfy


@pytest.fixture
def budgets(faces):
    return faces.module("nodes.host.graph_budget")


@pytest.fixture
def derivatives(faces):
    return faces.module("nodes.host.derivatives").derivatives


def allocated(recorded) -> int:
    """Bytes that torch allocated and did not free."""
    return sum(event.self_cpu_memory_usage for event in recorded.events())


@pytest.mark.parametrize("second", [False, True])
@pytest.mark.parametrize("way", [None, *WAYS])
def test_a_budget_counts_what_torch_allocates_for_a_graph(modules, budgets, derivatives, way, second):
    """Not the weights that are there, but the copies of those that are lent; a second graph's as well."""
    model = sd15()
    if way:
        lend_weights(model.model, way)
    halves, _ = cut(modules, model, conditioning(1), conditioning(2))
    decode, budget = halves.decode, budgets.GraphBudget(torch.device("cpu"))
    pulled = torch.zeros(0)
    gc.collect()  # what other tests left is not to be given back meanwhile
    profiled = profile(activities=[ProfilerActivity.CPU], profile_memory=True)
    with profiled as recorded, derivatives(), budget.measured():
        h = halves.h.clone().requires_grad_()
        out = decode(h)
        if second:
            pulled = torch.autograd.grad(out, h, torch.ones_like(out).requires_grad_(), create_graph=True)[0]
    weights = sum(weight.nbytes for weight in model.model.diffusion_model.output_blocks.parameters())
    kept = allocated(recorded) - out.nbytes - pulled.nbytes
    assert budget.bytes == pytest.approx(kept, abs=0.02 * weights)  # constants, and numbers beside tensors


def test_a_budget_counts_each_tensor_that_a_graph_keeps_once(budgets, derivatives):
    budget = budgets.GraphBudget(torch.device("cpu"))
    with derivatives(), budget.measured():
        x = torch.zeros(1 << 20, requires_grad=True)
        (x.sin().sin().exp() * x).sum()
    # x, which two nodes keep; its sine, which the second sine keeps; the exponential, which two nodes keep
    assert budget.bytes == 3 * x.nbytes


@pytest.mark.parametrize("fitting", [8, 7, 3, 1])
def test_work_is_done_in_the_largest_parts_that_fit_when_they_are_halved(budgets, fitting):
    from comfy.model_management import OOM_EXCEPTION

    tried = []

    def work(part: slice) -> list[int]:
        rows = list(range(8))[part]
        tried.append(len(rows))
        if len(rows) > fitting:
            raise OOM_EXCEPTION("no more")
        return rows

    assert sum(budgets.in_parts(work, 8), []) == list(range(8))
    assert max(size for size in tried if size <= fitting) > fitting / 2


def test_work_that_fits_in_no_part_says_what_to_do(budgets):
    from comfy.model_management import OOM_EXCEPTION

    def work(part: slice):
        raise OOM_EXCEPTION("no more")

    with pytest.raises(ValueError, match="Use smaller pictures") as raised:
        budgets.in_parts(work, 3)
    assert raised.value.__cause__.__traceback__ is None


def test_other_errors_are_let_through(budgets):
    def work(part: slice):
        raise RuntimeError("another")

    with pytest.raises(RuntimeError, match="another"):
        budgets.in_parts(work, 3)


def test_what_a_graph_keeps_must_not_be_changed(budgets, derivatives):
    with derivatives(), budgets.GraphBudget(torch.device("cpu")).measured():
        x = torch.ones(3, requires_grad=True)
        kept = x * 2
        out = (kept * kept).sum()
        kept += 1
    with pytest.raises(RuntimeError, match="changed in place"):
        out.backward()
