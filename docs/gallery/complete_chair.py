"""Cut a chair in half, and complete it: the network knows chairs, but not this one.

python docs/gallery/complete_chair.py runs/chairs80 chairs/chair_85.obj gallery
"""

import sys

import numpy as np
from trimesh.intersections import slice_faces_plane

import sdfnet
from sdfnet.fitting import CompletionConfig
from sdfnet.fitting.observations import surface_part
from sdfnet.mesh.mesh import Mesh
from sdfnet.rendering import contact_sheet, fit_camera, render_mesh, save_image

run, whole, out = sdfnet.load_run(sys.argv[1]), sdfnet.read_mesh(sys.argv[2]), sys.argv[3]
cut = slice_faces_plane(whole.vertices, whole.faces, plane_normal=[-1, 0, 0], plane_origin=whole.bounds.center)
half = Mesh(*cut[:2])  # only this half was seen
random = np.random.default_rng(0)
rows = random.choice(len(half.faces), 20_000, p=half.face_areas / half.face_areas.sum())
points = (half.triangles[rows] * random.dirichlet([1, 1, 1], len(rows))[:, :, None]).sum(axis=1)
normals = half.face_normals[rows]

# a scanner that was carried around the chair, 3 m away: points that it saw, and from where
ways = random.normal(size=(len(rows), 3))
ways = ways / np.linalg.norm(ways, axis=1, keepdims=True)
hit = whole.to_trimesh().ray.intersects_any(points + 0.05 * normals, ways)
seen = ((ways * normals).sum(axis=1) > 0.2) & ~hit
sensors = points + 300.0 * ways  # cm

part = surface_part(points[seen], normals=normals[seen], sensor=sensors[seen], noise_std=0.1)
done = sdfnet.fit(run, part, config=CompletionConfig("rigid", refine="shape"))
completed = done.mesh(resolution=128)

camera = fit_camera(whole, size=(400, 400))
pictures = [render_mesh(mesh, size=(400, 400), camera=camera) for mesh in (half, completed, whole)]
labels = ["the half that was seen", "completed", "the whole chair"]
save_image(contact_sheet(pictures, columns=3, labels=labels), f"{out}/complete_chair.png")
