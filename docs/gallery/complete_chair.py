"""Cut a chair in half, and complete it: the network knows chairs, but not this one.

python docs/gallery/complete_chair.py demo/run chairs/chair_37.obj gallery
"""

import sys

import numpy as np

import sdfnet
from sdfnet.fitting import CompletionConfig
from sdfnet.fitting.observations import surface_part
from sdfnet.mesh.mesh import Mesh
from sdfnet.rendering import contact_sheet, fit_camera, render_mesh, save_image

run, whole, out = sdfnet.load_run(sys.argv[1]), sdfnet.read_mesh(sys.argv[2]), sys.argv[3]
left = whole.triangles.mean(axis=1)[:, 0] < whole.bounds.center[0]  # only this half was seen
half = Mesh(whole.vertices, whole.faces[left])
corners = half.triangles  # points on its faces, and their normals
random = np.random.default_rng(0)
rows = random.choice(len(corners), 6000, p=half.face_areas / half.face_areas.sum())
points = (corners[rows] * random.dirichlet([1, 1, 1], 6000)[:, :, None]).sum(axis=1)

part = surface_part(points, normals=half.face_normals[rows], noise_std=0.1)
done = sdfnet.fit(run, part, config=CompletionConfig("rigid", refine="shape"))
completed = sdfnet.extract_mesh(done.fields[0], resolution=128, similarity=done.similarities[0])

camera = fit_camera(whole, size=(400, 400))
pictures = [render_mesh(mesh, size=(400, 400), camera=camera) for mesh in (half, completed, whole)]
labels = ["the half that was seen", "completed", "the whole chair"]
save_image(contact_sheet(pictures, columns=3, labels=labels), f"{out}/complete_chair.png")
