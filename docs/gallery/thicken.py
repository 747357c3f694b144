"""A learned chair made thicker, thinner and hollow. The network need not learn this.

python docs/gallery/thicken.py demo/run gallery
"""

import sys

import sdfnet
from sdfnet.fields import Box, Difference, Offset, Shell
from sdfnet.rendering import contact_sheet, render_mesh, save_image

run, out = sdfnet.load_run(sys.argv[1]), sys.argv[2]
chair = run.field("chair_02")
open_side = Box([0.5, 2.0, 2.0], center=[0.5, 0.0, 0.0])
shapes = {
    "as learned": chair,
    "0.02 thicker": Offset(chair, 0.02),
    "0.01 thinner": Offset(chair, -0.01),
    "hollow, cut open": Difference(Shell(chair, 0.03), open_side),
}
pictures = []
for label, field in shapes.items():
    mesh = sdfnet.extract_mesh(field, resolution=128)
    sdfnet.save_mesh(mesh, f"{out}/{label.replace(', ', ' ').replace(' ', '_')}.obj")
    pictures.append(render_mesh(mesh, size=(320, 360)))
save_image(contact_sheet(pictures, labels=list(shapes), columns=4), f"{out}/thicken.png")
