"""The error of a learned chair, in colour: red where the result lies outside its source, blue where inside.

python docs/gallery/error_in_color.py demo/run gallery
"""

import sys

import torch

import sdfnet
from sdfnet.rendering import PaintedMesh, render_mesh, save_image
from sdfnet.rendering.colormap import diverging_colors

run, out = sdfnet.load_run(sys.argv[1]), sys.argv[2]
name = "chair_03"
learned = sdfnet.extract_mesh(run.field(name), resolution=128)  # unit frame
source = sdfnet.read_mesh(run.shape(name).source).to_unit(run.similarity(name))

sdf_true = sdfnet.evaluate(sdfnet.MeshField(source), torch.tensor(learned.vertices)).numpy()
print(f"mean error {100 * abs(sdf_true).mean():.3f} % of the radius")
colors = diverging_colors(sdf_true, limit=0.005)  # full colour at 0.5 % of the radius
save_image(render_mesh(PaintedMesh(learned, vertex_colors=colors)), f"{out}/error_in_color.png")
