"""The first components of a family, four new shapes, and a direction that makes shapes taller for their width.

python docs/gallery/family.py runs/bodies gallery
"""

import sys
from pathlib import Path

import sdfnet
from sdfnet.latents.config import SpaceConfig
from sdfnet.rendering import contact_sheet, load_image, save_image

run, out = sdfnet.load_run(sys.argv[1]), Path(sys.argv[2])

table = ["name,height"]  # an attribute of each chair, measured on its source
for shape in run.shapes:
    box = sdfnet.read_mesh(shape.source).bounds.extent
    table.append(f"{shape.name},{box[1] / max(box[0], box[2]):.3f}")
(out / "heights.csv").write_text("\n".join(table))

config = SpaceConfig(attributes=out / "heights.csv", num_shapes=4, num_modes=2, num_tests=0, novelty=0.6)
report = sdfnet.analyze_space(run, out / "space", config=config)  # space.html, space.json, pictures, new/
print("outliers:", report.document["outliers"], "thrown away:", report.document["new"]["thrown_away"])

taller = sdfnet.shape_from(run, near=run.names[0], attributes={"height": 1.9})  # a field, in the unit frame
sdfnet.save_mesh(sdfnet.extract_mesh(taller, resolution=64), out / "taller.obj")

strips = [load_image(out / "space" / f"{name}.png") for name in ("pc1", "pc2", "attribute/height")]
save_image(contact_sheet(strips, labels=["pc1", "pc2", "height over width"], columns=1), out / "family.png")
