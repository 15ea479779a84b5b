"""A real ComfyUI server on the loopback address with this pack in it, for as long as a `with` block lasts."""

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import ProxyHandler, Request, build_opener

import websocket

from tools.comfyui import find_comfyui, link_pack

START_SECONDS = 180
# Loopback never goes through a proxy.
OPENER = build_opener(ProxyHandler({}))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def failure(status: dict[str, Any]) -> str:
    """Which node of a failed prompt raised what."""
    for name, data in status["messages"]:
        if name == "execution_error":
            raised = f"{data['exception_type']}: {data['exception_message'].strip()}"
            return f"node {data['node_id']} ({data['node_type']}) raised {raised}"
    return f"the prompt ended without success: {status['messages']}"


class Server:
    """Started on entry, stopped on exit. `base` holds models and custom nodes (the ComfyUI itself, if not given),
    pictures go to `output`. Users, temporary files and the database live in a folder that goes when the server does.
    This pack is the only custom node that loads."""

    def __init__(self, output: Path, *, base: Path | None = None):
        comfyui = find_comfyui()
        if comfyui is None:
            raise ValueError("no ComfyUI found: run `make install` or set COMFYUI_PATH")
        base = base or comfyui
        self.folder = link_pack(base)
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.scratch = tempfile.TemporaryDirectory(prefix="hspace-server-")
        self.log_path = Path(self.scratch.name) / "server.log"
        self.folders = {"output": output, "temp": Path(self.scratch.name) / "temp"}
        self.command = [
            *(sys.executable, "-u", comfyui / "main.py", "--disable-auto-launch"),
            *os.environ.get("HSPACE_COMFYUI_ARGS", "--cpu").split(),
            *("--listen", "127.0.0.1", "--port", str(self.port)),
            *("--base-directory", base, "--output-directory", output),
            *("--temp-directory", self.scratch.name, "--user-directory", self.scratch.name),
            *("--database-url", "sqlite:///:memory:"),
            *("--disable-api-nodes", "--disable-all-custom-nodes", "--whitelist-custom-nodes", self.folder),
        ]

    def __enter__(self) -> "Server":
        self.folders["output"].mkdir(parents=True, exist_ok=True)
        with self.log_path.open("w") as log:
            self.process = subprocess.Popen(self.command, stdout=log, stderr=log, start_new_session=True)
        try:
            self._wait_until_it_answers()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.scratch.cleanup()

    def _wait_until_it_answers(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise RuntimeError(f"ComfyUI ended while it was starting, {self._tail()}")
            try:
                self.get("/system_stats")
                return
            except URLError:
                time.sleep(0.25)
        raise RuntimeError(f"ComfyUI did not answer within {START_SECONDS} s, {self._tail()}")

    def _tail(self) -> str:
        return "its log ends:\n" + "\n".join(self.log().splitlines()[-30:])

    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    def get(self, path: str) -> bytes:
        with OPENER.open(self.url + path) as answer:
            return answer.read()

    def object_info(self) -> dict[str, Any]:
        """Every node type with its inputs, outputs and where it comes from."""
        return json.loads(self.get("/object_info"))

    def queue(
        self,
        prompt: dict[str, Any],
        workflow: dict[str, Any],
        report: Callable[[str, dict[str, Any]], None] | None = None,
    ) -> dict[str, Any]:
        """The outputs of a prompt that ran to its end, by node id; `workflow` is saved in its pictures.

        `report(event, data)` hears what the server says on the way. A refused prompt or a failed node is an error.
        """
        client = uuid.uuid4().hex
        events = websocket.create_connection(f"ws://127.0.0.1:{self.port}/ws?clientId={client}", http_no_proxy=["*"])
        try:
            extra = {"extra_pnginfo": {"workflow": workflow}}
            prompt_id = self._post_prompt({"prompt": prompt, "client_id": client, "extra_data": extra})
            self._follow(events, prompt_id, report)
        finally:
            events.close()
        return self.outputs(prompt_id)

    def outputs(self, prompt_id: str) -> dict[str, Any]:
        """The outputs of a prompt that has ended, by node id. A failed node is an error.

        The server says that a prompt has ended a moment before it is in its history.
        """
        for _ in range(100):
            history = json.loads(self.get(f"/history/{prompt_id}")).get(prompt_id)
            if history:
                if history["status"]["status_str"] != "success":
                    raise RuntimeError(failure(history["status"]))
                outputs: dict[str, Any] = history["outputs"]
                return outputs
            time.sleep(0.1)
        raise RuntimeError(f"prompt {prompt_id} is not in the history: it has not ended, or was never queued")

    def _post_prompt(self, body: dict[str, Any]) -> str:
        request = Request(f"{self.url}/prompt", json.dumps(body).encode(), {"Content-Type": "application/json"})
        try:
            with OPENER.open(request) as response:
                answer = json.load(response)
        except HTTPError as error:
            answer = json.load(error)
        # Outputs that do not validate are left out without an error as long as one does.
        if answer.get("error") or answer["node_errors"]:
            raise RuntimeError(f"ComfyUI refused the prompt: {json.dumps(answer, indent=1)}")
        return answer["prompt_id"]

    def _follow(
        self, events: websocket.WebSocket, prompt_id: str, report: Callable[[str, dict[str, Any]], None] | None
    ) -> None:
        while True:
            try:
                message = events.recv()
            except (websocket.WebSocketException, ConnectionError):
                message = ""
            if not message:
                raise RuntimeError(f"ComfyUI ended while a prompt ran, {self._tail()}")
            if isinstance(message, bytes):  # a preview picture
                continue
            event = json.loads(message)
            if report:
                report(event["type"], event["data"])
            if event["type"] == "executing" and event["data"] == {"node": None, "prompt_id": prompt_id}:
                return

    def pictures(self, outputs: dict[str, Any]) -> list[Path]:
        """The files of all images in `outputs`."""
        images = [image for output in outputs.values() for image in output.get("images", [])]
        return [self.folders[image["type"]] / image["subfolder"] / image["filename"] for image in images]
