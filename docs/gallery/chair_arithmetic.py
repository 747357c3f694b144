"""A mix and a difference of chairs, by name. Each code is a point, so codes can be added.

python docs/gallery/chair_arithmetic.py demo/run gallery
"""

import sys

import sdfnet
from sdfnet.rendering import contact_sheet, render_mesh, save_image
from sdfnet.runs import extract_shape
from sdfnet.runs.mixes import add_mixes

out = sys.argv[2]
sums = ["chair_01", "chair_05", "0.5*chair_01 + 0.5*chair_05", "chair_05 + 0.8*(chair_10 - chair_00)"]
run, names = add_mixes(sdfnet.load_run(sys.argv[1]), sums)  # the weights of each sum are 1 together

pictures = []
for name in names:
    mesh = extract_shape(run, name, resolution=96).mesh  # without loose components, in world units
    sdfnet.save_mesh(mesh, f"{out}/{name}.obj")
    pictures.append(render_mesh(mesh, size=(320, 360)))
save_image(contact_sheet(pictures, labels=sums, columns=4), f"{out}/chair_arithmetic.png")
