"""Why samples are excluded from training and metrics. `Sample.excluded` is one of these, or None."""

from __future__ import annotations

GROUP_IN_TEST = "group in test"
COPY_IN_TEST = "copy in test"
COPY_IN_VALIDATION = "copy in validation"
SEVERAL_LABELS = "several labels"
EXPLAINED = {
    GROUP_IN_TEST: "their group is in the test split too",
    COPY_IN_TEST: "the same image is in the test split",
    COPY_IN_VALIDATION: "the same image is in the validation split",
    SEVERAL_LABELS: "the same image has another label too",
}
