"""Figures of a run: as SVG in the colours of the page that holds them, and curves.png."""

from collections.abc import Mapping, Sequence

from results.curves import average_certified_radius, outcomes
from results.figures.certificates import curves
from results.figures.drawing import as_png
from results.schema import Row


def curves_figure(certificates: Mapping[str, Sequence[Row]], labels: Mapping[str, str]) -> bytes:
    """curves.png: certified accuracy against radius, one step line and 95 % band per variant.

    `certificates` holds rows of `schema.CERTIFICATES` by variant, and `labels` their names for
    readers; sigma and ACR are added.
    """
    described = {}
    for variant, rows in certificates.items():
        acr = average_certified_radius(*outcomes(rows)).value
        sigma = rows[0]["sigma"]
        described[variant] = f"{labels[variant]}   $\\sigma$ {sigma:.3g}   ACR {acr:.3f}"
    return as_png(curves(certificates, described))
