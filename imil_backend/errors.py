"""Every error that this package raises on purpose.

A message says what happened, to which sample, task or file, and what to do about it.
"""

from collections.abc import Iterable


class ImilError(Exception):
    """The root of all of them."""


class SettingsError(ImilError):
    """A setting is missing, wrong, or contradicts another one."""


class NotFoundError(ImilError):
    """Something asked for by name or id is not there."""


# --- images ---------------------------------------------------------------------------------------


class ImageError(ImilError):
    """An image cannot be used; it is set aside with this reason and the rest goes on."""


class UnreadableImageError(ImageError):
    """Truncated, empty, not an image, or in a format that is not supported."""


class ImageTooLargeError(ImageError):
    """More bytes or pixels than the limit allows."""


class BlankImageError(ImageError):
    """Decoded, but no picture is visible in it."""


class CacheError(ImilError):
    """The cache of pixels or features cannot be written."""


class DatasetError(ImilError):
    """A data set cannot be imported, or cannot be trained on, as it is."""


# --- masks ----------------------------------------------------------------------------------------


class MaskError(ImilError):
    """A region or mask cannot be used; its annotation is set aside with this reason."""


class MaskSizeError(MaskError):
    """A region or mask was made for an image of another size."""


class RleValueError(MaskError):
    """Brush data contains something other than whole numbers from 0 to 255."""


class RleHeaderError(MaskError):
    """Brush data does not start with a header of 8 bit values."""


class RleTruncatedError(MaskError):
    """Brush data ends before the image's last pixel."""


class RleOverrunError(MaskError):
    """Brush data continues after the image's last pixel."""


class BitmaskError(MaskError):
    """A bitmask or stored mask is not a PNG that can be decoded."""


class ShapeError(MaskError):
    """A rectangle, ellipse or polygon has no usable coordinates."""


class RegionTypeError(MaskError):
    """A region of a kind that no mask can be made of: video, audio, key points, drafts."""


class RegionLabelError(MaskError):
    """It is unclear whether a region is irrelevant or relevant."""


# --- learning -------------------------------------------------------------------------------------


class LearningError(ImilError):
    """Training, evaluation or prediction cannot go on."""


class WeightsError(LearningError):
    """A weights file is missing, damaged, or belongs to another network."""


class TrainingFailedError(LearningError):
    """The training process ended without a result."""


class TrainingStoppedError(LearningError):
    """The training was stopped on request; when restarted, it resumes from its last epoch."""


class OutOfMemoryError(LearningError):
    """The device's memory is too small, even for the smallest micro-batch."""


class ComparisonError(LearningError):
    """A comparison of arms cannot be run, or its runs do not belong together."""


# --- Label Studio ---------------------------------------------------------------------------------


class LabelStudioError(ImilError):
    """Label Studio returned an error, or is not configured as needed."""


class LabelStudioUnreachableError(LabelStudioError):
    """No answer within the time-out, or a 5xx; worth trying again."""


class LabelStudioAuthError(LabelStudioError):
    """401 or 403: the message names the setting or permission to change."""


class LabelConfigError(LabelStudioError):
    """A project's labeling config lacks something that is needed."""


class AmbiguousConfigError(LabelConfigError):
    """A labeling config is ambiguous.

    Attributes:
        option: of the command, that says what is meant, without its dashes.
        choices: what it may name.
        several: whether it may name more than one.
    """

    def __init__(self, message: str, option: str, choices: Iterable[str], *, several: bool = False) -> None:
        super().__init__(message)
        self.option = option
        self.choices = tuple(choices)
        self.several = several


class AnnotationError(LabelStudioError):
    """An annotation cannot be understood; it is set aside with this reason."""


# --- store and loop -------------------------------------------------------------------------------


class StoreError(ImilError):
    """The database or the data directory cannot be used."""


class NewerDataError(StoreError):
    """The data directory was written by a newer version of this package."""


class BackupError(StoreError):
    """A backup cannot be made or restored; what was there is as it was."""


class RoundError(ImilError):
    """The requested operation is not possible in the round's state."""
