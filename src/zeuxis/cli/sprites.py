"""What `zeuxis sample` writes for games: clean edges, one palette, larger pixels, sprite sheets, tiled previews."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zeuxis.checkpoint import Model
    from zeuxis.images import Pixels

MOST = 4096  # pictures that are held in memory at once


@dataclass(frozen=True)
class Finish:
    """What is done to drawn pictures: clean edges, one palette of so many colours, pixels so many times as large."""

    clean: bool = False
    colours: int | None = None
    factor: int = 1

    def __call__(self, chunks: Iterable[Pixels], total: int) -> Iterator[Pixels]:
        """Finished chunks, of `total` pictures together."""
        from zeuxis.editing.sprites import cleaned, enlarged, reduced

        if self.clean:
            chunks = (cleaned(chunk) for chunk in chunks)
        if self.colours is not None:
            chunks = [reduced(gathered(chunks, total), self.colours)[0]]
        for chunk in chunks:
            yield enlarged(chunk, self.factor) if self.factor > 1 else chunk


def gathered(chunks: Iterable[Pixels], total: int) -> Pixels:
    """All pictures at once, where they are few enough."""
    import numpy as np

    from zeuxis.errors import UserError

    if total > MOST:
        raise UserError("--seeds", f"{total} pictures", f"up to {MOST} for one sheet or palette", "write several")
    return np.concatenate(list(chunks))


def write_atlas(chunks: Iterable[Pixels], seeds: list[int], model: Model, out: Path, *, mark: bool) -> list[Path]:
    """`atlas.png` with `atlas.json` (hash form) and `atlas-array.json`."""
    from zeuxis.editing.sprites import atlas
    from zeuxis.files import write_json
    from zeuxis.images import SHEET_MARK, picture_of, save_png
    from zeuxis.sampling import synthetic_mark

    pixels = gathered(chunks, len(seeds))
    names = [f"seed{seed:06d}" for seed in seeds]
    sheet, by_name = atlas(pixels, names, "atlas.png")
    note = {SHEET_MARK: "Zeuxis", **(synthetic_mark(model) if mark else {})}
    save_png(picture_of(sheet.transpose(1, 2, 0)), out / "atlas.png", note)
    write_json(out / "atlas.json", by_name)
    write_json(out / "atlas-array.json", atlas(pixels, names, "atlas.png", array=True)[1])
    return [out / "atlas.png", out / "atlas.json"]


def write_tiles(
    chunks: Iterable[Pixels], seeds: list[int], model: Model, out: Path, *, mark: bool
) -> tuple[list[Path], str]:
    """One `tiled000042.png` of 3x3 repeats per seed, and a line with the seam ratio of each axis."""
    import numpy as np

    from zeuxis.editing.seams import seam_ratio, tiled
    from zeuxis.images import SHEET_MARK, picture_of, save_png
    from zeuxis.sampling import synthetic_mark

    pixels = gathered(chunks, len(seeds))
    for seed, picture in zip(seeds, tiled(pixels), strict=True):
        note = {SHEET_MARK: "Zeuxis", **(synthetic_mark(model, seed) if mark else {})}
        save_png(picture_of(picture.transpose(1, 2, 0)), out / f"tiled{seed:06d}.png", note)
    ratios = ", ".join(f"{axis} {np.median(seam_ratio(pixels, axis)):.2f}" for axis in ("x", "y"))
    return [out], f"; difference across the edge over that inside (median; 1 shows no seam): {ratios}"
