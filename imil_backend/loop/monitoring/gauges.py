"""Gauges of Prometheus from plain values."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client.metrics_core import GaugeMetricFamily


def gauge(
    name: str, documentation: str, values: Mapping[tuple[str, ...], float], *labels: str
) -> GaugeMetricFamily:
    """A gauge with a value for each tuple of label values; one without labels has the empty tuple."""
    family = GaugeMetricFamily(name, documentation, labels=labels)
    for label_values, value in values.items():
        family.add_metric(label_values, value)
    return family
