"""Sharp edges and corners put back into a mesh of marching cubes, which cuts them off inside each cell.

The extended marching cubes of Kobbelt et al. ("Feature sensitive surface extraction from volume data", SIGGRAPH 2001)
as a step after marching cubes. Where the normals on the boundary of a cell's patch diverge, triangles around a vertex
on the sharp edge or corner replace the patch. Then edges that cross the sharp edge are flipped along it. A closed mesh
stays closed, with the same components and handles.

Beyond the paper: the place of a feature is refined from near by (`qef`), which tells an edge from a bend; patches that
share a corner are joined (`detect`); and interrupted feature lines are completed (`extended_marching_cubes`).
"""

from sdfnet.extraction.sharp_features.extended_marching_cubes import sharpen as sharpen
