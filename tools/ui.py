"""ComfyUI with this pack in it, for the browser: `make ui`."""

import subprocess
import sys

from tools.comfyui import ROOT, find_comfyui, link_pack

PORT = 8188


def main() -> int:
    comfyui = find_comfyui()
    if comfyui is None:
        raise ValueError("no ComfyUI found: run `make install` or set COMFYUI_PATH")
    link_pack(comfyui)
    print(
        f"ComfyUI starts on http://127.0.0.1:{PORT} (templates: Workflow > Browse Templates; stop with Ctrl-C)",
        flush=True,
    )
    output = ["--output-directory", ROOT / "output"]
    arguments = ["--cpu", "--disable-auto-launch", "--listen", "127.0.0.1", "--port", str(PORT), *output]
    try:
        return subprocess.run([sys.executable, comfyui / "main.py", *arguments]).returncode
    except KeyboardInterrupt:
        return 0


if __name__ == "__main__":
    sys.exit(main())
