"""How exact and how fast are exported generators? ONNX against PyTorch for every exportable network, and a generator of
64x64 pictures in a browser page.

Largest difference in [-1, 1] over 64 seeds in batches of 1, 3 and 16; pictures a second of onnxruntime beside PyTorch
in turns, one thread each. The page (headless Chromium, one thread, a plain static server) is timed from the start of
loading to its first picture, and over 60 further ones. It is left out where there is no Chromium or no onnxruntime-web
(in node_modules, or named by ZEUXIS_ORT_WEB).
"""

from __future__ import annotations

import argparse
import functools
import sys
import tempfile
import threading
import time
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import torch

from timing import in_turns, report
from zeuxis.checkpoint import Model
from zeuxis.config import ImageSpec
from zeuxis.errors import UserError
from zeuxis.export import export_onnx, export_web
from zeuxis.export.onnx_file import OUTPUT
from zeuxis.export.web import find_runtime
from zeuxis.families import make_family, model_names
from zeuxis.families.base import RenderOptions
from zeuxis.sampling import Sampler

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "system_compare"))
PICTURES = 60
LOOP = f"""(async () => {{
  const began = performance.now()
  for (let k = 0; k < {PICTURES}; k++) zeuxis.pixelsOf(await zeuxis.render(zeuxis.noiseOf(k, 1, -1), 1))
  return performance.now() - began
}})()"""


class Quiet(SimpleHTTPRequestHandler):
    """A plain static server without a log."""

    def log_message(self, *args: object) -> None:
        return


def fresh(name: str, side: int, channels: int = 3) -> Model:
    """A model as it is built: speed and exactness do not depend on what it has learned."""
    torch.manual_seed(0)
    family = make_family(name, ImageSpec(height=side, width=side, channels=channels))
    networks = {
        part: net.eval().requires_grad_(False) for part, net in family.build().items() if part in family.model_parts
    }
    return Model(family, networks, name, hash="0" * 64)


def compare(model: Model, folder: Path, turns: int) -> None:
    import onnxruntime

    path = folder / "model.onnx"
    started = time.perf_counter()
    parity = export_onnx(model, path)
    seconds = time.perf_counter() - started
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, settings, providers=["CPUExecutionProvider"])
    noise = Sampler(model).noise(list(range(16)))
    feed = {name: value.numpy() for name, value in noise.items()}

    @torch.inference_mode()
    def plain() -> None:
        model.family.render(model.networks, noise, None, RenderOptions())

    times = in_turns(lambda: session.run([OUTPUT], feed), plain, turns=turns)
    report(
        f"{model.name} as ONNX, {model.spec}", **times.to_json(), **parity.to_json(),
        export_seconds=round(seconds, 2), onnx_pictures_per_second=round(16 / times.seconds[0]),
        megabytes=round(path.stat().st_size / 1e6, 2),
    )  # fmt: skip


def page(model: Model, folder: Path) -> None:
    from browser import Browser, find

    program = find()
    try:
        runtime = find_runtime(None)
    except UserError as error:
        print(f"page left out: {error}", file=sys.stderr)
        return
    if program is None:
        print("page left out: no Chromium", file=sys.stderr)
        return
    export_web(model, folder / "web", runtime=runtime)
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder / "web")))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_address[1]}/"
    with Browser(program, folder / "profile") as browser:
        browser.call("Page.navigate", url=address)
        while not browser.value("Boolean(document.querySelector('canvas'))"):
            time.sleep(0.01)
        first = browser.value("performance.now()") / 1000
        while not browser.value("Boolean(globalThis.zeuxis)"):
            time.sleep(0.01)
        answer = browser.call("Runtime.evaluate", expression=LOOP, awaitPromise=True, returnByValue=True)
        seconds = answer["result"]["value"] / 1000
        elsewhere = [url for url in browser.requests if not url.startswith((address, "data:"))]
        console = browser.console
    server.shutdown()
    report(f"{model.name} in a page, {model.spec}", first_picture_seconds=round(first, 3),
           pictures_per_second=round(PICTURES / seconds, 1), requests_elsewhere=len(elsewhere),
           console_lines=len(console), headers="none", threads=1)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="*", help="all gan and vae networks without it, each by its first preset")
    parser.add_argument("--side", type=int, default=32)
    parser.add_argument("--page-model", default="dcgan/small")
    parser.add_argument("--turns", type=int, default=7)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    names = asked.models
    if names is None:
        firsts = {name.rsplit("/", 1)[0]: name for name, _ in reversed(list(model_names()))}
        names = [name for name in firsts.values() if name.startswith(("gan/", "vae/"))]
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            compare(fresh(name, asked.side), Path(folder), asked.turns)
    if asked.page_model:
        with tempfile.TemporaryDirectory() as folder:
            page(fresh(asked.page_model, 64), Path(folder))


if __name__ == "__main__":
    main()
