"""IMIL in Python: import a dataset, train, rank mispredictions, decode masks, black out, predict.

Thin: everything here is what the commands do. Errors are those of `imil_backend.errors`, and say what to do.
"""

from imil_backend.api.imil import Imil, Misprediction, Trained
from imil_backend.api.mask_decoding import decode_mask
from imil_backend.api.version import Version
from imil_backend.images.masks.blackout import black_out
from imil_backend.images.masks.masks import combine_masks, dice
from imil_backend.images.phantoms import write_phantoms
from imil_backend.learning.contract.training_job import Progress, Recipe
from imil_backend.loop.base.policy import Policy
from imil_backend.loop.importing.importing import ImportReport
from imil_backend.loop.sources.rows import Columns
from imil_backend.loop.views.image_export import ExportReport

__all__ = [
    "Columns",
    "ExportReport",
    "Imil",
    "ImportReport",
    "Misprediction",
    "Policy",
    "Progress",
    "Recipe",
    "Trained",
    "Version",
    "black_out",
    "combine_masks",
    "decode_mask",
    "dice",
    "write_phantoms",
]
