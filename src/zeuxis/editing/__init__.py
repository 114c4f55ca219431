"""Editing: interpolate, mix, project, inpaint, outpaint, directions, compose; functions over the family contract."""

from zeuxis.editing.collage import Collage, Layout, compose, grid_layout, lay_out, read_layout
from zeuxis.editing.directions import Direction, closed_form, edited, load_directions, principal, save_direction, sweep
from zeuxis.editing.encoder import Encoder, load_encoder, save_encoder, train_encoder
from zeuxis.editing.inpainting import inpaint, outpaint
from zeuxis.editing.paths import interpolate, mix
from zeuxis.editing.pictures import open_picture, parse_box, pixels_of, read_mask, read_picture
from zeuxis.editing.projection import Projection, project
from zeuxis.editing.spaces import Codes, Space, space_of

__all__ = [
    "Codes", "Collage", "Direction", "Encoder", "Layout", "Projection", "Space", "closed_form", "compose", "edited",
    "grid_layout", "inpaint", "interpolate", "lay_out", "load_directions", "load_encoder", "mix", "open_picture",
    "outpaint", "parse_box", "pixels_of", "principal", "project", "read_layout", "read_mask", "read_picture",
    "save_direction", "save_encoder", "space_of", "sweep", "train_encoder",
]  # fmt: skip
