"""ComfyUI-Model-Bending's PCA and h-space bending, by its mathematics (model_bending_nodes.py, PCAPrep and HBending).

h is the output of the middle block's attention at every call of the UNet, counted by a step counter; trajectories are
standardised and decomposed as a whole by scikit-learn; a component times a scale is added at the call of its number.
Both prompts of a call are recorded and changed together, as there.
"""

import torch
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler
from torch import Tensor

COMPONENTS = 10


class _Calls:
    """The output of the middle block's attention, call by call."""

    def __init__(self, unet, change: Tensor | None = None):
        self.attention, self.change, self.h = unet.middle_block[1], change, []

    def __enter__(self) -> "_Calls":
        self.handle = self.attention.register_forward_hook(self._call)
        return self

    def __exit__(self, *raised) -> None:
        self.handle.remove()

    def _call(self, module, args, h: Tensor) -> Tensor | None:
        self.h.append(h if self.change is None else None)
        return None if self.change is None else h + self.change[len(self.h) - 1].to(h.device)


def components(unet, sample) -> Tensor:
    """`(10, calls, c, h, w)`; `sample()` draws one batch of pictures."""
    with torch.no_grad(), _Calls(unet) as calls:
        sample()
    trajectories = torch.stack(calls.h, 1)
    flat = StandardScaler().fit_transform(trajectories.flatten(1).cpu().numpy())
    found = PCA(COMPONENTS).fit(flat).components_
    return torch.from_numpy(found).float().reshape(COMPONENTS, *trajectories.shape[1:])


def bent(unet, component: Tensor, scale: float) -> _Calls:
    """While it is entered, the UNet's next sampling is bent."""
    return _Calls(unet, component * scale)
