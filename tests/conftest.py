"""Fixtures that every room's tests may use."""

pytest_plugins = [
    "support.label_studio",
    "support.browser",
    "support.order",
    "support.postgres",
    "support.xrays",
]
