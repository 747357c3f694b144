"""The report of a space as one HTML page: it reads offline, holds its pictures, and needs no script."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sdfnet.latents.new_shapes import describe_thrown
from sdfnet.rendering.renderer import Image

_STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, sans-serif; color: #33363b; background: #f6f6f4; }
body { max-width: 980px; margin: 2em auto; padding: 0 1em; }
h1 { font-size: 1.6em; } h2 { font-size: 1.2em; margin-top: 2em; border-bottom: 1px solid #d5d5d1; }
img { max-width: 100%; height: auto; } svg { max-width: 100%; height: auto; display: block; }
svg text { font: 12px system-ui, sans-serif; fill: #55585e; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
td, th { padding: 2px 12px 2px 0; text-align: left; }
.scroll { max-height: 22em; overflow: auto; } p.small { color: #6a6d73; font-size: 13px; }
"""

_CHART = (460, 240)
_MARGIN = (48, 14, 14, 36)
"""Left, top, right, bottom."""

_MAP = (940, 680)
_THUMBNAIL = 74

_INK, _BAND = "#3b7dd8", "#3b7dd833"

_TOLD = 10
"""Components in the table."""


def format_page(document: Mapping[str, Any], images: Mapping[str, Image]) -> str:
    """Return the page for the document of `space.json` and the pictures of `Pictures.images`.

    >>> document = {"run": "runs/a", "step": 1, "shapes": ["b"], "components": 1, "movements": [2.0], "notes": [],
    ...     "compactness": [[1.0, 1.0, 1.0]], "distances": {"b": 1.0}, "outliers": [], "neighbours": {"b": []},
    ...     "scores": {"b": [0.5]}}
    >>> format_page(document, {}).startswith("<!doctype html>")
    True
    """
    title = f"The space of {document['run']}"
    parts = [
        f"<p>{len(document['shapes'])} shapes, {document['components']} principal components, "
        f"{document['step']} steps of training. Intervals hold the true value with a probability of 95 %.</p>",
        *_components(document, images),
        *_attributes(document, images),
        *_groups(document, images),
        *_new(document, images),
        *_quality(document),
        *_map(document, images),
        *_outliers(document, images),
        *_neighbours(document),
    ]
    if document["notes"]:
        parts += ["<h2>Notes</h2>", *(f"<p>{_text(note)}</p>" for note in document["notes"])]
    head = f"<meta charset=utf-8><title>{_text(title)}</title><style>{_STYLE}</style>"
    allowed = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    policy = f'<meta http-equiv=Content-Security-Policy content="{allowed}">'
    body = f"<body><h1>{_text(title)}</h1>\n" + "\n".join(parts) + "\n</body>"
    return f"<!doctype html>\n<html lang=en><head>{policy}{head}</head>{body}</html>\n"


def _components(document: Mapping[str, Any], images: Mapping[str, Image]) -> list[str]:
    """Return compactness and the strips along the components."""
    shares = 100 * np.array(document["compactness"], dtype=np.float64)
    rows = "".join(
        f"<tr><td>{number}</td><td>{moved:.2g} %</td><td>{value:.1f} %</td><td>{_interval(low, high)}</td></tr>"
        for number, (moved, (value, low, high)) in enumerate(
            zip(document["movements"][:_TOLD], shares[:_TOLD], strict=True), start=1
        )
    )
    parts = [
        "<h2>Principal components</h2>",
        "<p>The first component moves the surface most, the second most of the rest, and so on. Movement: how far one "
        "standard deviation along the component moves the surface, in percent of the radius (root mean square). "
        "Strips: colours show where the surface is farther out (warm) or in (cold) than the one in the middle. That is "
        "the mean, or the learned shape nearest to it if the mean is no whole shape. "
        "Compactness: the share of the variance of the surface in the first components. Few shapes look more compact "
        "than the population that they come from, and the intervals correct this. So they may lie below the curve. "
        "There is no interval for more components than four tenths of the shapes.</p>",
        _chart(list(range(1, len(shares) + 1)), shares, across="components", up="% of the variance", top=100.0),
        f"<table><tr><th>components</th><th>movement</th><th>compactness</th><th>interval</th></tr>{rows}</table>",
    ]
    strips = sorted((key for key in images if key.startswith("pc")), key=lambda key: int(key[2:]))
    for key in strips:
        moved = document["movements"][int(key[2:]) - 1]
        parts.append(f"<h3>{key}: one standard deviation moves the surface by {moved:.2g} % of the radius</h3>")
        parts.append(_picture(images[key], f"shapes along {key}"))
    return parts


def _interval(low: float, high: float) -> str:
    return "unknown: too few shapes" if np.isnan(low) else f"{low:.1f} to {high:.1f} %"


def _attributes(document: Mapping[str, Any], images: Mapping[str, Image]) -> list[str]:
    """Return the attributes: how well the codes know them, their measured effects, and their strips."""
    found = document.get("attributes")
    if found is None:
        return []
    head = "".join(f"<th>{_text(label)}</th>" for label in found["rows"])
    lines = []
    for label, explained, row in zip(found["rows"], found["explained"], found["effects"], strict=True):
        cells = "".join(f"<td>{value:.2f} <small>({low:.2f} to {high:.2f})</small></td>" for value, low, high in row)
        lines.append(f"<tr><td>{_text(label)}</td><td>{100 * max(explained, 0):.0f} %</td>{cells}</tr>")
    parts = [
        "<h2>Attributes</h2>",
        f"<p>{found['shapes']} shapes. Known: the share of the variance that the code explains in shapes left out. The "
        "other columns: a shape moves by one standard deviation of the attribute of the row, and the attributes of the "
        "columns change by so many of their standard deviations, as measured on decoded shapes. 1 on the diagonal and "
        "0 elsewhere is right; the directions are calibrated to it. The intervals (a bootstrap over the shapes) tell "
        "how well so few shapes fix a direction.</p>",
        f"<table><tr><th></th><th>known</th>{head}</tr>{''.join(lines)}</table>",
    ]
    for key in images:
        if key.startswith("attribute/"):
            parts.append(_picture(images[key], f"shapes along {key.removeprefix('attribute/')}"))
    return parts


def _groups(document: Mapping[str, Any], images: Mapping[str, Image]) -> list[str]:
    """Return the comparisons of groups."""
    if not document.get("groups"):
        return []
    parts = [
        "<h2>Groups</h2>",
        "<p>A permutation test of the largest difference over the surface: one p-value for each comparison. Colours "
        "show where the groups differ (corrected p below 0.05), from two sides: warm where the second group is farther "
        "out, cold where it is farther in. Shapes are compared in the unit frame.</p>",
    ]
    for each in document["groups"]:
        first, second = (f"{each[key]} ({size})" for key, size in zip(("first", "second"), each["sizes"], strict=True))
        share = f"{100 * each['share_of_surface']:.0f} % of the surface differs"
        parts.append(f"<p><b>{_text(second)}</b> against {_text(first)}: p = {each['p_value']:.3g}; {share}</p>")
        if f"groups/{each['second']}" in images:
            parts.append(_picture(images[f"groups/{each['second']}"], f"differences of {each['second']}"))
    return parts


def _new(document: Mapping[str, Any], images: Mapping[str, Image]) -> list[str]:
    """Return the new shapes, and how many were thrown away."""
    if "new" not in document:
        return []
    found = document["new"]
    thrown = describe_thrown(found["thrown_away"])
    drawn = f"{len(found['shapes'])} new shapes of {found['drawn']} drawn at novelty {found['novelty']:g}"
    text = f"{drawn}; thrown away: {thrown}. They are a run: new/"
    return ["<h2>New shapes</h2>", f"<p>{_text(text)}</p>", _picture(images["new"], "new shapes")]


def _quality(document: Mapping[str, Any]) -> list[str]:
    """Return the curves of generalization and specificity."""
    if "generalization" not in document:
        return []
    about = {
        "generalization": "Mean distance between a learned shape and its best stand-in of the first components of the "
        "other shapes. Lower is better.",
        "specificity": "Mean distance between random shapes of the first components and the nearest learned shape. "
        "Lower means that random shapes look more like learned ones.",
    }
    parts = []
    for name, text in about.items():
        chart = _chart(document["modes"], np.array(document[name]), across="components", up="% of the radius")
        parts += [f"<h2>{name.capitalize()}</h2>", f"<p>{text}</p>", chart]
    return parts


def _map(document: Mapping[str, Any], images: Mapping[str, Image]) -> list[str]:
    """Return the map of the first two components: thumbnails where they have room, dots elsewhere."""
    places = np.array([[*row, 0.0][:2] for row in document["scores"].values()])
    span = np.maximum(np.abs(places).max(axis=0), 1e-9)
    width, height = _MAP
    half = np.array([width, height]) / 2
    at = half + places * [1, -1] / span * (half - _THUMBNAIL / 2 - 4)
    drawn: list[np.ndarray] = []
    pictures, dots = [], []
    names = list(document["scores"])
    order = [names.index(key.removeprefix("shape/")) for key in images if key.startswith("shape/")]
    for row in order + [row for row in range(len(names)) if row not in set(order)]:
        x, y = at[row]
        title = f"<title>{_text(names[row])}</title>"
        fits = all(np.abs(at[row] - other).max() >= _THUMBNAIL for other in drawn)
        if fits and f"shape/{names[row]}" in images:
            drawn.append(at[row])
            corner = f'x="{x - _THUMBNAIL / 2:.1f}" y="{y - _THUMBNAIL / 2:.1f}"'
            source = _source(images[f"shape/{names[row]}"])
            size = f'width="{_THUMBNAIL}" height="{_THUMBNAIL}"'
            pictures.append(f'<image {corner} {size} href="{source}">{title}</image>')
        else:
            dots.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{_INK}" opacity="0.7">{title}</circle>')
    axes = (
        f'<path d="M0 {half[1]}H{width}M{half[0]} 0V{height}" stroke="#d5d5d1"/>'
        f'<text x="{width - 4}" y="{half[1] - 5}" text-anchor="end">pc1</text><text x="{half[0] + 5}" y="12">pc2</text>'
    )
    return [
        "<h2>Map</h2>",
        "<p>Every shape at its scores along the first two components. Rest the pointer on a shape for its name.</p>",
        f'<svg viewBox="0 0 {width} {height}" width="{width}">{axes}{"".join(pictures)}{"".join(dots)}</svg>',
    ]


def _outliers(document: Mapping[str, Any], images: Mapping[str, Image]) -> list[str]:
    told = document["outliers"]
    text = (
        "The distance of a code from the mean of the others, by their covariance: about 1 for a typical shape. "
        f"{'Unusual: ' + ', '.join(told) + '.' if told else 'No shape is unusual.'} "
        "A picture shows the shape, coloured where it differs, beside what the other shapes lead one to expect."
    )
    parts = ["<h2>Outliers</h2>", f"<p>{_text(text)}</p>"]
    parts += [_picture(image, key) for key, image in images.items() if key.startswith("outlier/")]
    distances = document["distances"].items()
    rows = "".join(f"<tr><td>{_text(name)}</td><td>{value:.2f}</td></tr>" for name, value in distances)
    return [*parts, f"<div class=scroll><table><tr><th>shape</th><th>distance</th></tr>{rows}</table></div>"]


def _neighbours(document: Mapping[str, Any]) -> list[str]:
    told = {
        name: ", ".join(f"{other} ({length:.3g})" for other, length in near)
        for name, near in document["neighbours"].items()
    }
    rows = "".join(f"<tr><td>{_text(name)}</td><td>{_text(near)}</td></tr>" for name, near in told.items())
    head = "<h2>Nearest neighbours</h2><p>In brackets: how far the surface of one is from the other, by "
    "the codes and to first order, in percent of the radius (root mean square).</p>"
    return [f"{head}<div class=scroll><table>{rows}</table></div>"]


def _chart(across_values: Sequence[float], rows: np.ndarray, *, across: str, up: str, top: float | None = None) -> str:
    """Return a curve with its band as SVG. `rows` (N, 3) are value, lower and upper."""
    left, above, beside, below = _MARGIN
    width, height = _CHART[0] - left - beside, _CHART[1] - above - below
    most = float(np.nanmax(rows)) * 1.05 if top is None else top
    first, last = float(across_values[0]), float(max(across_values[-1], across_values[0] + 1))
    x = [left + width * (value - first) / (last - first) for value in across_values]
    value, low, high = ([above + height * (1 - number / max(most, 1e-12)) for number in rows[:, k]] for k in range(3))
    line = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, value, strict=True))
    known = [number for number in range(len(rows)) if not np.isnan(rows[number]).any()]
    edges = [*((x[k], low[k]) for k in known), *((x[k], high[k]) for k in reversed(known))]
    band = " ".join(f"{a:.1f},{b:.1f}" for a, b in edges)
    ticks = "".join(
        f'<text x="{left - 6}" y="{above + height * (1 - share) + 4:.0f}" text-anchor="end">{most * share:.3g}</text>'
        f'<path d="M{left} {above + height * (1 - share):.1f}h{width}" stroke="#e3e3df"/>'
        for share in (0, 0.5, 1)
    )
    base, right, middle = above + height, left + width, left + width / 2
    words = (
        (left, base + 16, "start", f"{first:g}"),
        (right, base + 16, "end", f"{last:g}"),
        (middle, base + 30, "middle", across),
        (left + 4, above + 10, "start", up),
    )
    told = "".join(f'<text x="{x}" y="{y}" text-anchor="{anchor}">{text}</text>' for x, y, anchor, text in words)
    curve = f'<polyline points="{line}" fill="none" stroke="{_INK}" stroke-width="2"/>'
    area = f'<polygon points="{band}" fill="{_BAND}"/>'
    return f'<svg viewBox="0 0 {_CHART[0]} {_CHART[1]}" width="{_CHART[0]}">{ticks}{area}{curve}{told}</svg>'


def _picture(image: Image, about: str) -> str:
    return f'<p><img alt="{_text(about)}" src="{_source(image)}"></p>'


def _source(image: Image) -> str:
    """Return a picture as a data address."""
    from PIL import Image as Pillow

    buffer = io.BytesIO()
    Pillow.fromarray(image).save(buffer, format="PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


def _text(text: str) -> str:
    return html.escape(str(text))
