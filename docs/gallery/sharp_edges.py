"""A box less a cylinder: as marching cubes gives it, with its sharp edges, and with few faces.

python docs/gallery/sharp_edges.py gallery
"""

import sys

import sdfnet
from sdfnet.fields import Box, Cylinder, Transformed, rotation_about
from sdfnet.mesh.remesh import simplify_mesh
from sdfnet.rendering import contact_sheet, render_mesh, save_image

out = sys.argv[1]
block = Box([0.8, 0.5, 0.6]) - Cylinder(0.3, 2.0)
block = Transformed(block, rotation=rotation_about([1, 2, 0.5], 31))  # askew, so that no face lies on the lattice
sharp = sdfnet.extract_mesh(block, resolution=33, sharp=True, vertex_normals=False)
meshes = {
    "marching cubes": sdfnet.extract_mesh(block, resolution=33, vertex_normals=False),
    "sharp=true": sharp,
    "max_faces=300": simplify_mesh(sharp, max_faces=300).mesh,
}
sdfnet.save_mesh(sharp, f"{out}/sharp.obj")
pictures = [render_mesh(mesh, size=(480, 400)) for mesh in meshes.values()]
labels = [f"{label}: {len(mesh.faces):,} faces" for label, mesh in meshes.items()]
save_image(contact_sheet(pictures, labels=labels, columns=3), f"{out}/sharp_edges.png")
