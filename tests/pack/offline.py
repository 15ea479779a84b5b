"""What the pack does for its user, in a process that writes down every attempt to reach a network or to run code.

Python tells its audit hooks of those whoever makes them. ComfyUI itself is imported before anybody listens.
"""

import asyncio
import importlib.util
import json
import pickle
import sys
from pathlib import Path

FORBIDDEN = (
    "socket.connect", "socket.sendto", "socket.getaddrinfo", "socket.gethostbyname", "urllib.Request",
    "http.client.connect", "ftplib.connect", "smtplib.connect", "subprocess.Popen", "os.system", "os.exec",
    "os.posix_spawn", "os.spawn", "os.startfile", "webbrowser.open", "pickle.find_class", "code.__new__",
)  # fmt: skip


class Runs:
    """Its pickle makes a file when somebody loads it."""

    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self):
        return Path.touch, (self.marker,)


def use(pack: str, saved: Path) -> None:
    """Schemas, load, sample with an edit, judge, save."""
    import folder_paths
    from models import core_sample, sigmas

    async def node_classes():
        extension = await sys.modules[pack].comfy_entrypoint()
        await extension.on_load()
        return {node.GET_SCHEMA().node_id: node for node in await extension.get_node_list()}

    nodes = asyncio.run(node_classes())
    load = importlib.import_module(f"{pack}.nodes.capture.load_ddpm")
    model, vae, empty, latent = nodes["HSpaceLoadDDPM"].execute(load.DEMO_MODEL).result
    (classifier, _) = nodes["HSpaceLoadClassifier"].execute("demo attributes (built in)").result
    direction = nodes["HSpaceLoadDirection"].execute("demo smile.safetensors").result[0]
    inject = importlib.import_module(f"{pack}.nodes.host").inject
    edited = inject(model, direction, [2.0])
    pixels = core_sample(edited, "euler", sigmas(model, 2), empty, empty, latent, seed=0)
    assert classifier.scores(vae.decode(pixels)).isfinite().all()
    folder_paths.folder_names_and_paths["hspace_directions"] = ([str(saved)], {".safetensors"})
    nodes["HSpaceSaveDirection"].execute(direction, "smile", False)
    assert nodes["HSpaceLoadDirection"].execute("smile.safetensors").result[0] == direction.renamed("smile")


def provoke(pack: str, folder: Path) -> None:
    """Folders of models that ask for code to be run, or for files from elsewhere."""
    marker = folder / "ran"
    code = f"from pathlib import Path\nPath({str(marker)!r}).touch()\n"
    bomb = pickle.dumps(Runs(marker))
    settings = {"_class_name": "UNet2DModel", "beta_schedule": "linear", "num_train_timesteps": 1000}
    settings |= {"beta_start": 0.0001, "beta_end": 0.02}
    classifier = importlib.import_module(f"{pack}.nodes.host.classifier")
    ddpm = importlib.import_module(f"{pack}.nodes.host.pixel_ddpm")
    for name, config, weights in (
        ("code", {"model_type": "mine", "auto_map": {"AutoConfig": "mine.Config", "AutoModelForImageClassification":
                  "mine.Model", "AutoImageProcessor": "mine.Processor"}}, "model.safetensors"),
        ("elsewhere", {"model_type": "mine", "auto_map": {"AutoConfig": "somebody/something--mine.Config"},
                       "_name_or_path": "somebody/something"}, "model.safetensors"),
        ("pickle", {"model_type": "resnet"}, "pytorch_model.bin"),
        ("ddpm", settings, "diffusion_pytorch_model.bin"),
        ("ddpm that is no safetensors", settings, "diffusion_pytorch_model.safetensors"),
    ):  # fmt: skip
        hostile = folder / name
        hostile.mkdir()
        (hostile / "mine.py").write_text(code)
        for file in ("config.json", "preprocessor_config.json", "scheduler_config.json"):
            (hostile / file).write_text(json.dumps(config))
        (hostile / weights).write_bytes(bomb)
        try:
            (ddpm.load_ddpm if name.startswith("ddpm") else classifier.load_hugging_face)(hostile)
        except ValueError as error:
            print(f"{name}: {str(error)[:100]}")
        else:
            raise AssertionError(f"{name} was loaded")
    assert not marker.exists()


def main() -> None:
    sys.path += [str(Path(__file__).resolve().parents[1])]
    import comfy.samplers  # noqa: F401, what ComfyUI does when it is imported is its own affair
    import comfy_extras.nodes_custom_sampler  # noqa: F401
    from comfy_api.latest import io  # noqa: F401
    from conftest import PACK, ROOT

    attempts: list[str] = []

    def hook(event: str, arguments: tuple) -> None:
        if event in FORBIDDEN:
            attempts.append(f"{event} {arguments!r}"[:300])

    sys.addaudithook(hook)
    spec = importlib.util.spec_from_file_location(PACK, ROOT / "__init__.py", submodule_search_locations=[str(ROOT)])
    sys.modules[PACK] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    folder = Path(sys.argv[1])
    use(PACK, folder / "saved")
    provoke(PACK, folder)
    print("attempts:", *attempts, sep="\n")
    assert not attempts
    pickle.loads(pickle.dumps(Runs(folder / "ran")))  # noqa: S301, shows that hook and marker would have told
    assert attempts and (folder / "ran").exists()


if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).resolve().parents[1])]
    import conftest  # noqa: F401, finds ComfyUI

    main()
