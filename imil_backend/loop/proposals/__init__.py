"""Proposed masks: what clinicians find pre-filled in the editor, to be accepted or corrected."""
