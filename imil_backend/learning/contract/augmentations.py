"""How training images are varied. Without torch.

`none` shows them as they are; `light` turns, scales, shifts and brightens them a little; all others do that
and then what others have published, with their usual settings (`inputs/published.py`).
"""

from __future__ import annotations

_PUBLISHED = "imil_backend.learning.inputs.published"

# By name, the function that alters a batch, see `published.Alter`; as text, since it needs torch. None: no
# more than the above.
AUGMENTATIONS: dict[str, str | None] = {
    "none": None,
    "light": None,
    "random-erasing": f"{_PUBLISHED}:random_erasing",
    "cutout": f"{_PUBLISHED}:cutout",
    "mixup": f"{_PUBLISHED}:mixup",
    "cutmix": f"{_PUBLISHED}:cutmix",
    "augmix": f"{_PUBLISHED}:augmix",
    "randaugment": f"{_PUBLISHED}:randaugment",
    "trivialaugment": f"{_PUBLISHED}:trivialaugment",
    "autoaugment": f"{_PUBLISHED}:autoaugment",
}
