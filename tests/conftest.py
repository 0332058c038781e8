"""Fixtures that every room's tests may use."""

pytest_plugins = [
    "support.label_studio",
    "support.installation",
    "support.browser",
    "support.clouds",
    "support.faults",
    "support.logs",
    "support.order",
    "support.postgres",
    "support.xrays",
]
