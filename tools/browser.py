"""ComfyUI's own page in Chromium, driven through Playwright by what its user sees: buttons, keys and the search box.

`CHROMIUM` names the browser; else chromium, chromium-browser or google-chrome is taken from the path.
"""

import base64
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from playwright.sync_api import ConsoleMessage, Locator, TimeoutError, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")
SIZE = {"width": 1600, "height": 1000}
# Where the search box is opened, which then is under the mouse with its text field; and where a node is put down.
EMPTY, HERE = (800, 162), (480, 300)
ANSWER_SECONDS, RUN_SECONDS = 15, 120
# No tour, full drawing at every zoom, nothing over the graph.
SETTINGS = {
    "Comfy.TutorialCompleted": True,
    "LiteGraph.Canvas.MinFontSizeForLOD": 0,
    "LiteGraph.Node.TooltipDelay": 100,
    "Comfy.Minimap.Visible": False,
    "Comfy.Graph.CanvasInfo": False,
}
# A help page in the user's language, before the one there is; a template without a picture, which tier 3 looks for.
EXPECTED_404 = ("/en.md", ".jpg")
# Asks a model hub, which ComfyUI forbids, how large the default workflow's models are, and hears so when it pleases. A
# model that is missing in another workflow is said in a notice of the page besides.
SIZES_OF_MODELS = "/assets/missingModelDownload-"

ACTIVE = "app.extensionManager.workflow.activeWorkflow"
LISTEN = """(seconds) => { window.ended = new Promise((resolve) => {
    for (const name of ['execution_success', 'execution_error', 'execution_interrupted'])
        app.api.addEventListener(name, (event) => resolve([name, event.detail]), { once: true })
    setTimeout(() => resolve(['no answer', seconds + ' s']), seconds * 1000)
}) }"""
DROP = """([name, data]) => {
    const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0))
    const dataTransfer = new DataTransfer()
    dataTransfer.items.add(new File([bytes], name, { type: 'image/png' }))
    app.canvasEl.dispatchEvent(new DragEvent('drop', { dataTransfer, bubbles: true, cancelable: true }))
}"""
PICTURES = """(nodes) => nodes.every((node) => {
    const element = document.querySelector(`[data-node-id="${node}"]`)
    const pictures = element ? [...element.querySelectorAll('img')] : app.graph.getNodeById(node).imgs
    return pictures?.length && pictures.every((picture) => picture.naturalWidth)
})"""
BOXES = """() => [...app.graph.nodes, ...app.graph.groups, ...app.graph.reroutes.values()]
    .map((item) => [...item.boundingRect])"""
SHOW = "([offset, scale]) => { Object.assign(app.canvas.ds, { offset, scale }); app.canvas.setDirty(true, true) }"
TWO_FRAMES = "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"


def find_chromium() -> str | None:
    chosen = os.environ.get("CHROMIUM")
    found = [path for name in ([chosen] if chosen else NAMES) if (path := shutil.which(name))]
    if chosen and not found:
        raise ValueError(f"CHROMIUM is {chosen}, which is no program: correct or unset it")
    return found[0] if found else None


class Frontend:
    """The page of the ComfyUI at `url`, open for as long as a `with` block lasts.

    `problems` collects what the console calls an error and every uncaught exception, from when the page is ready.
    """

    def __init__(self, url: str):
        self.url = url
        self.problems: list[str] = []

    def __enter__(self) -> "Frontend":
        self.playwright = sync_playwright().start()
        try:
            self.browser = self.playwright.chromium.launch(executable_path=find_chromium(), args=["--disable-gpu"])
            self.page = self.browser.new_page(viewport=SIZE)
            self.page.set_default_timeout(ANSWER_SECONDS * 1000)
            self.page.on("console", self._hear)
            self.page.on("pageerror", lambda error: self.problems.append(str(error)))
            self.open(self.url)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.playwright.stop()

    def open(self, url: str) -> None:
        """Go to the ComfyUI at `url`, to an empty graph."""
        self.page.request.post(f"{url}/api/settings", data=SETTINGS)
        self.page.goto(url)
        self.page.wait_for_function("window.app?.vueAppReady && " + ACTIVE)
        self.page.wait_for_load_state("networkidle")
        self.page.evaluate("() => app.extensionManager.command.execute('Comfy.NewBlankWorkflow')")
        # What the default workflow and a fresh user folder lack is not this pack's.
        self.problems.clear()

    def _hear(self, message: ConsoleMessage) -> None:
        address = message.location.get("url", "")
        if message.type == "error" and not address.endswith(EXPECTED_404) and SIZES_OF_MODELS not in address:
            self.problems.append(f"{message.text} ({address})")

    def complaints(self) -> list[str]:
        """What the page tells its user: problems in the console, and the notice about missing nodes or models."""
        notices = self.page.get_by_test_id("error-overlay").all_inner_texts()
        return self.problems + [notice.strip() for notice in notices]

    def set_nodes2(self, on: bool) -> None:
        """Draw nodes as elements of the page (Nodes 2.0), or on the classic canvas."""
        self.page.evaluate("(on) => app.extensionManager.setting.set('Comfy.VueNodes.Enabled', on)", on)
        wanted = "app.graph.nodes.length" if on else "0"
        self.page.wait_for_function(f"document.querySelectorAll('[data-node-id]').length === {wanted}")

    def open_template(self, category: str, name: str) -> None:
        """Choose a template in the template browser; again where its cards were drawn anew under the click."""
        self.page.locator(".templates-tab-button").click()
        self.page.get_by_role("button", name=category, exact=True).click()
        card = self.page.get_by_test_id(f"template-workflow-{name}")
        with self._another_workflow():
            for _ in range(ANSWER_SECONDS // 5):
                card.click()
                with suppress(TimeoutError):
                    card.wait_for(state="hidden", timeout=5000)
                    break

    def close_dialogs(self) -> None:
        """What a test that failed has left open would lie over the page."""
        overlay = self.page.get_by_test_id("dialog-overlay")
        if overlay.count():
            self.page.keyboard.press("Escape")
            overlay.wait_for(state="hidden")

    @contextmanager
    def _another_workflow(self) -> Iterator[None]:
        before = self.page.evaluate(f"() => {ACTIVE}.path")
        yield
        self.page.wait_for_function(f"(before) => {ACTIVE}.path !== before", arg=before)
        self.page.evaluate(TWO_FRAMES)

    def load(self, workflow: dict[str, Any], name: str) -> None:
        self.page.evaluate("([workflow, name]) => app.loadGraphData(workflow, true, true, name)", [workflow, name])

    def drop(self, picture: Path) -> None:
        """Drop a picture on the canvas and wait for the workflow in it."""
        with self._another_workflow():
            self.page.evaluate(DROP, [picture.name, base64.b64encode(picture.read_bytes()).decode()])

    def prompt(self) -> dict[str, Any]:
        return self.page.evaluate("async () => (await app.graphToPrompt()).output")

    def workflow(self) -> dict[str, Any]:
        return self.page.evaluate("() => app.graph.serialize()")

    def wait_for_pictures(self, *nodes: str) -> None:
        """Until each node shows at least one, in either rendering."""
        self.page.wait_for_function(PICTURES, arg=nodes)

    def run(self, seconds: int = RUN_SECONDS) -> str:
        """Press Run and wait for the end: the id of the prompt."""
        self.page.evaluate(LISTEN, seconds)
        self.page.get_by_test_id("queue-button").click()
        event, data = self.page.evaluate("() => window.ended")
        if event != "execution_success":
            raise RuntimeError(f"{event}: {data} {self.complaints()}")
        return data["prompt_id"]

    def search(self, text: str) -> Locator:
        """The nodes that the search box offers; opened by a double click, again where the page was too busy for it."""
        box = self.page.get_by_role("combobox", name="Add a node")
        for _ in range(ANSWER_SECONDS):
            self.page.mouse.dblclick(*EMPTY)
            with suppress(TimeoutError):
                box.wait_for(timeout=1000)
                break
        box.fill(text)
        return self.page.get_by_test_id("result-item")

    def add_node(self, text: str, name: str) -> None:
        """Search for `text`, choose the node called `name`, and put it down with a second click."""
        self.search(text).filter(has=self.page.get_by_text(name, exact=True)).first.click()
        self.page.get_by_role("combobox", name="Add a node").wait_for(state="hidden")
        self.page.mouse.click(*HERE)
        self.page.wait_for_function("() => !app.graph.nodes.some((node) => node.flags.ghost)")

    def select(self, *titles: str) -> None:
        self.page.evaluate("(t) => app.canvas.selectItems(app.graph.nodes.filter((n) => t.includes(n.title)))", titles)

    def open_help(self) -> Locator:
        """The help page of the selected node, in the panel on the right."""
        self.page.get_by_test_id("info-button").click()
        return self.page.locator(".node-help-content")

    def tooltip(self, slot: int) -> str:
        """The tooltip of an input of the one node there is, with the mouse on its socket; classic canvas."""
        place = "(slot) => [...app.canvas.convertOffsetToCanvas(app.graph.nodes[0].getInputPos(slot))]"
        x, y = self.page.evaluate(place, slot)
        self.page.mouse.move(x + 4, y)
        return self.page.wait_for_selector(".node-tooltip").inner_text()

    def screenshot(self, path: Path, *, scale: float = 0.8, margin: int = 180) -> None:
        """The whole graph, on a page as large as that takes."""
        self.page.mouse.move(0, 0)
        boxes = self.page.evaluate(BOXES)
        left, top = (min(box[i] for box in boxes) for i in (0, 1))
        width, height = (max(box[i] + box[i + 2] for box in boxes) - (left, top)[i] for i in (0, 1))
        self.page.set_viewport_size({"width": int(width * scale) + margin, "height": int(height * scale) + margin})
        self.page.evaluate(SHOW, [[margin / 1.5 / scale - left, margin / 1.5 / scale - top], scale])
        self.page.evaluate(TWO_FRAMES)
        self.page.screenshot(path=path)
        self.page.set_viewport_size(SIZE)
