"""Run every example workflow on a real ComfyUI and say where its pictures are: `make demo`."""

import json
import sys
import time
from pathlib import Path
from typing import Any

from tools.comfyui import ROOT
from tools.server import Server
from tools.workflow import to_prompt

OUTPUT = ROOT / "output"


class NodeTimes:
    """Prints a line for each node that has run, with its time; on a terminal the progress of the running one too."""

    def __init__(self, prompt: dict[str, Any]):
        self.titles = {node_id: node["_meta"]["title"] for node_id, node in prompt.items()}
        self.running: str | None = None
        self.start = 0.0

    def __call__(self, event: str, data: dict[str, Any]) -> None:
        if event == "progress" and self.running and sys.stdout.isatty():
            print(f"\r  {data['value']}/{data['max']} {self.titles[self.running]}", end="\r", flush=True)
        if event == "executing":
            if self.running:
                print(f"  {time.monotonic() - self.start:5.1f} s  {self.titles[self.running]}", flush=True)
            self.running, self.start = data.get("display_node"), time.monotonic()


def run(server: Server, path: Path, object_info: dict[str, Any]) -> list[Path]:
    """The pictures of one workflow."""
    print(path.stem, flush=True)
    workflow = json.loads(path.read_text())
    prompt = to_prompt(workflow, object_info)
    return server.pictures(server.queue(prompt, workflow, NodeTimes(prompt)))


def main() -> int:
    workflows = sorted((ROOT / "example_workflows").glob("*.json"))
    if not workflows:
        raise ValueError(f"{ROOT / 'example_workflows'} holds no workflow")
    pictures: list[Path] = []
    failed: list[str] = []
    print("ComfyUI starts", flush=True)
    with Server(OUTPUT) as server:
        object_info = server.object_info()
        for path in workflows:
            try:
                pictures += run(server, path, object_info)
            except (ValueError, RuntimeError) as error:
                failed.append(f"{path.stem}: {error}")
    print("\nPictures:", *(f"  {picture}" for picture in pictures if OUTPUT in picture.parents), sep="\n")
    for failure in failed:
        print(f"FAILED {failure}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
