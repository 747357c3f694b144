"""Fit a chair that the run has not seen: from its mesh to a code, and from the code to a mesh.

python docs/gallery/fit_chair.py runs/chairs80 chairs/chair_84.obj gallery
"""

import sys
from pathlib import Path

import sdfnet
from sdfnet.fitting import MeshFitConfig
from sdfnet.rendering import contact_sheet, render_mesh, save_image

run, path, out = sdfnet.load_run(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
config = MeshFitConfig(steps=150, num_samples=30_000, resolution=96)
sdfnet.fit_meshes(run, {"new_chair": path}, f"{out}/fitted", config=config)

source, fitted = sdfnet.read_mesh(path), sdfnet.read_mesh(f"{out}/fitted/meshes/new_chair.obj")
pictures = [render_mesh(mesh, size=(400, 400)) for mesh in (source, fitted)]
save_image(contact_sheet(pictures, labels=["source", "fitted by its code alone"]), f"{out}/fit_chair.png")
