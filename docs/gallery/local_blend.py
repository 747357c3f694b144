"""The back of one chair on the seat of another, and the legs of a third one below a plane.

python docs/gallery/local_blend.py demo/run gallery
"""

import sys

import sdfnet
from sdfnet.fields import HalfSpace, MaskedBlend
from sdfnet.rendering import contact_sheet, render_mesh, save_image
from sdfnet.runs import extract_shape
from sdfnet.runs.mixes import add_mixes

run, out = sdfnet.load_run(sys.argv[1]), sys.argv[2]
words = ["chair_01", "chair_05", "near=chair_01; take=chair_05; part=back"]
run, names = add_mixes(run, words)  # the labels of the parts are beside the source meshes
pictures = [render_mesh(extract_shape(run, name, resolution=80).mesh, size=(320, 360)) for name in names]

# Any field can be the mask: here all that is below y = -0.1 in the unit frame, with a wide seam.
below = HalfSpace([0, 1, 0], point=[0, -0.1, 0])
blend = MaskedBlend(run.field("chair_05"), run.field("chair_10"), mask=below, seam=0.1)
mesh = sdfnet.extract_mesh(blend, resolution=80)
sdfnet.save_mesh(mesh, f"{out}/blend.obj")
pictures.append(render_mesh(mesh, size=(320, 360)))
labels = ["chair_01", "chair_05", "back of chair_05", "legs of chair_10"]
save_image(contact_sheet(pictures, labels=labels, columns=4), f"{out}/local_blend.png")
