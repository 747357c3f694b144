"""Primitives with a smooth blend, a shell and sharp edges. No network is needed.

python docs/gallery/blends.py gallery
"""

import sys

import sdfnet
from sdfnet.fields import Box, Cylinder, Difference, Intersection, Shell, SmoothUnion, Sphere, Torus, Transformed
from sdfnet.fields import rotation_about as turned
from sdfnet.rendering import contact_sheet, render_mesh, save_image

out = sys.argv[1]
cube = Box([0.7, 0.7, 0.7])
drill = Cylinder(0.35, 1.0)  # along y
across = [Transformed(drill, rotation=turned(axis, 90)) for axis in ([1, 0, 0], [0, 0, 1])]
shapes = {
    "bracket": Difference(Intersection(cube, Sphere(0.95)), drill, *across),
    "blend": SmoothUnion(Torus(0.7, 0.2), Cylinder(0.25, 0.8), width=0.4),
    "cut shell": Difference(Shell(Sphere(0.8), 0.1), Box([1.0, 1.0, 1.0], center=[1.0, 1.0, 1.0])),
}
meshes = {
    name: sdfnet.extract_mesh(field, resolution=72, sharp=True, vertex_normals=False) for name, field in shapes.items()
}
for name, mesh in meshes.items():
    sdfnet.save_mesh(mesh, f"{out}/{name.replace(' ', '_')}.stl")
pictures = [render_mesh(mesh, size=(400, 400)) for mesh in meshes.values()]
save_image(contact_sheet(pictures, labels=list(meshes), columns=3), f"{out}/blends.png")
