"""`sdfnet space`: what a family looks like, in numbers, pictures and one offline page.

Examples:

    sdfnet space run=runs/chairs
    sdfnet space run=runs/bodies attributes=bodies/params.csv 'columns=[age,height,weight]' 'groups=[age]'
    sdfnet space run=runs/chairs num_shapes=20 seed=3
    sdfnet space run=runs/chairs num_modes=6 num_tests=0 out=report
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sdfnet.cli.commands.keys import RunKeys
from sdfnet.cli.hydra_app.command import Command
from sdfnet.cli.hydra_app.output import say, say_where
from sdfnet.cli.hydra_app.schema import flat
from sdfnet.latents.analysis import analyze_space
from sdfnet.latents.config import SpaceConfig
from sdfnet.latents.new_shapes import describe_thrown

_OUTLIERS_TOLD = 5


@dataclass(frozen=True, kw_only=True)
class SpaceCommand(RunKeys):
    """The keys of `sdfnet space`.

    Attributes
    ----------
    out : path
        Where space.html, space.json and the pictures go; null is space/ inside the run.
    """

    inside = "space"
    space: SpaceConfig = flat(SpaceConfig)


def run_space(command: SpaceCommand) -> None:
    """Write the report, and print its main facts."""
    report = analyze_space(command.load(), command.folder, shapes=command.shapes, config=command.space, progress=True)
    for line in [*_told(report.document), *report.document["notes"]]:
        say(line)
    say(f"space.safetensors is in {command.run}: 'shapes=[\"pc1=2\"]' now works in extract, render and morph")
    say_where(report.page)


def _told(document: dict[str, Any]) -> list[str]:
    """Return the main facts of a report."""
    shares = document["compactness"]
    most = next(number for number, (value, _, _) in enumerate(shares, start=1) if value >= 0.9)
    value, low, high = shares[most - 1]
    interval = "" if low is None else f" ({100 * low:.0f} to {100 * high:.0f} %)"
    lines = [
        f"{len(document['shapes'])} shapes, {document['components']} components; the first {most} hold "
        f"{100 * value:.0f} % of the variance{interval}"
    ]
    for name in ("generalization", "specificity"):
        if name in document:
            value, low, high = document[name][-1]
            lines.append(f"{name} with {document['modes'][-1]}: {value:.3g} % of the radius ({low:.3g} to {high:.3g})")
    if "attributes" in document:
        known = zip(document["attributes"]["rows"], document["attributes"]["explained"], strict=True)
        told = ", ".join(f"{label} {100 * max(share, 0):.0f} %" for label, share in known)
        lines.append(f"attributes, and how much of each the codes know: {told}")
    for pair in document.get("groups", []):
        share = 100 * pair["share_of_surface"]
        lines.append(
            f"{pair['second']} against {pair['first']}: p = {pair['p_value']:.3g}, {share:.0f} % of the surface"
        )
    if "new" in document:
        new = document["new"]
        thrown = describe_thrown(new["thrown_away"])
        drawn = f"{len(new['shapes'])} new shapes of {new['drawn']} drawn at novelty {new['novelty']:g}"
        lines.append(f"{drawn}, a run in new/; thrown away: {thrown}")
    unusual = document["outliers"]
    more = f" and {len(unusual) - _OUTLIERS_TOLD} more" if len(unusual) > _OUTLIERS_TOLD else ""
    return [*lines, f"unusual: {', '.join(unusual[:_OUTLIERS_TOLD])}{more}" if unusual else "no shape is unusual"]


COMMAND = Command("space", SpaceCommand, run_space)
