"""Draw the losses that runs of a training have printed, one after the other.

python demo/prompted/loss.py FIRST.log SECOND.log --out loss.png
"""

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt  # noqa: E402

LINE = re.compile(r"^(\d+) loss ([\d.]+)", re.MULTILINE)


def draw_losses(logs: Sequence[Path], batch: int, target: Path) -> None:
    figure, axes = plt.subplots(figsize=(7, 3), layout="constrained")
    before = 0
    for log in logs:
        # a run that went on from its saved state prints some steps again
        printed = {before + int(step): float(loss) for step, loss in LINE.findall(log.read_text())}
        axes.semilogy(list(printed), list(printed.values()))
        before = max(printed)
    axes.set(xlabel=f"steps of batch {batch}", ylabel="mean squared error")
    axes.grid(alpha=0.3, which="both")
    figure.savefig(target, dpi=110)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("logs", type=Path, nargs="+")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("loss.png"))
    options = parser.parse_args()
    draw_losses(options.logs, options.batch, options.out)
