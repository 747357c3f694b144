"""A learned chair, cut in half with a box. A learned shape is a field, and fields combine.

python docs/gallery/cut_chair.py demo/run gallery
"""

import sys

import sdfnet
from sdfnet.fields import Box, Difference
from sdfnet.rendering import render_mesh, save_image

run, out = sdfnet.load_run(sys.argv[1]), sys.argv[2]
chair = run.field("chair_03")  # unit frame: the chair fits into [-1, 1]³
half = Difference(chair, Box([0.5, 2.0, 2.0], center=[0.5, 0.0, 0.0]))  # half extents; removes x > 0

mesh = sdfnet.extract_mesh(half, resolution=128, sharp=True, vertex_normals=False)
sdfnet.save_mesh(mesh, f"{out}/cut_chair.obj")
save_image(render_mesh(mesh, size=(640, 480)), f"{out}/cut_chair.png")
