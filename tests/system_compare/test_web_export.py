"""The folder of `zeuxis export --format web` in a real browser: same pictures, one thread, nothing from elsewhere."""

from __future__ import annotations

import functools
import io
import json
import os
import threading
import time
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from browser import Browser, find
from PIL import Image

from zeuxis.checkpoint import Model
from zeuxis.config import ImageSpec
from zeuxis.errors import UserError
from zeuxis.export.web import CHECKED, find_runtime
from zeuxis.families import make_family

pytest.importorskip("onnxruntime", reason="the extra `export` is not installed")


class Quiet(SimpleHTTPRequestHandler):
    """A plain static server that keeps its mouth shut."""

    def log_message(self, *args: object) -> None:
        return


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder and its address."""
    folder = tmp_path / "site"
    folder.mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield folder, f"http://127.0.0.1:{server.server_address[1]}/"
    server.shutdown()
    server.server_close()
    thread.join()


def runtime() -> Path:
    try:
        return find_runtime(None)
    except UserError:
        pytest.skip("no onnxruntime-web: npm install onnxruntime-web, or name it by ZEUXIS_ORT_WEB")


def evaluated(browser: Browser, expression: str) -> object:
    answer = browser.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
    assert "exceptionDetails" not in answer, answer
    return answer["result"].get("value")


def tiny_model() -> Model:
    """Untrained, RGBA, with classes whose names must not be taken for markup."""
    torch.manual_seed(0)
    family = make_family("gan/dcgan/tiny", ImageSpec(height=16, width=16, channels=4), 2)
    networks = {part: family.build()[part].eval().requires_grad_(False) for part in family.model_parts}
    return Model(family, networks, "gan/dcgan/tiny", ("cats", "<b>dogs"), (3, 1), "0" * 64)


def test_the_page_makes_the_pictures_that_python_makes(served: tuple[Path, str], tmp_path: Path) -> None:
    import onnxruntime

    from zeuxis.export import export_web

    program = find()
    if program is None:
        pytest.skip("no Chromium")
    folder, address = served
    os.rmdir(folder)
    export_web(tiny_model(), folder, runtime=runtime())
    with Browser(program, tmp_path / "profile") as browser:
        browser.call("Page.navigate", url=address)
        ends = time.monotonic() + 60
        while not evaluated(browser, "Boolean(globalThis.zeuxis)"):
            assert time.monotonic() < ends, evaluated(browser, "document.body.innerText")
            time.sleep(0.05)
        check = json.loads((folder / "check.json").read_text())
        found = evaluated(browser, f"zeuxis.render({json.dumps(check)}, {CHECKED}).then(values => [...values])")
        shown = evaluated(browser, "document.querySelectorAll('canvas').length")
        twice = evaluated(browser, "[0, 1].map(() => [...zeuxis.noiseOf(5, 1, -1).z]).map(String)")
        saved = evaluated(
            browser,
            "new Promise(done => document.querySelector('canvas').toBlob(async blob => done([...new Uint8Array("
            "await (await zeuxis.marked(blob, 7)).arrayBuffer())])))",
        )
        requests, console = browser.requests, browser.console
    session = onnxruntime.InferenceSession((folder / "model.onnx").read_bytes(), providers=["CPUExecutionProvider"])
    feed = {each.name: np.array(check[each.name], np.int64 if each.name == "labels" else np.float32)
            for each in session.get_inputs()}  # fmt: skip
    feed = {name: value.reshape(CHECKED, -1) if name != "labels" else value for name, value in feed.items()}
    wanted = session.run(["pictures"], feed)[0]
    assert np.abs(np.array(found, np.float32).reshape(wanted.shape) - wanted).max() < 1e-4
    assert shown == 12 and twice[0] == twice[1]  # type: ignore[index]
    assert console == [] and requests and all(url.startswith((address, "data:")) for url in requests)
    with Image.open(io.BytesIO(bytes(saved))) as picture:  # type: ignore[arg-type]
        picture.load()
        assert picture.text["Synthetic"] == "true" and picture.text["PageSeed"] == "7"  # type: ignore[attr-defined]
        assert "trainedAlgorithmicMedia" in picture.text["XML:com.adobe.xmp"]  # type: ignore[attr-defined]


def test_without_the_runtime_one_line_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ZEUXIS_ORT_WEB", raising=False)
    with pytest.raises(UserError, match=r"--runtime.*ort\.wasm\.min\.mjs.*npm install onnxruntime-web"):
        find_runtime(None)
    with pytest.raises(UserError, match=r"--runtime: got '.*nowhere'"):
        find_runtime(tmp_path / "nowhere")
