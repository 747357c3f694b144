"""Sharp edges and corners put back into a mesh of marching cubes, which cuts them off inside each cell.

The extended marching cubes of Kobbelt et al. ("Feature sensitive surface extraction from volume data", SIGGRAPH 2001)
as a step after marching: where the normals on the rim of a cell's patch diverge, its triangles are replaced by a fan
around a vertex on the edge or corner, and sides of fans that still run across an edge are flipped along it. Neither
changes what the surface is: a closed mesh stays closed, with the same components and handles. Where nothing is sharp,
nothing is touched. Beyond the paper: features are looked at from near by (`features`), which tells an edge from a bend;
patches that share a corner are joined (`joining`); and gaps in edges are closed (`gaps`).

All work in lattice coordinates, and memory is proportional to the surface.
"""

from sdfnet.extraction.sharp_features.extended_marching_cubes import SharpMesh as SharpMesh
from sdfnet.extraction.sharp_features.extended_marching_cubes import sharpen as sharpen
