"""Restore the sharp edges and corners that marching cubes cuts off inside each cell.

The package does the extended marching cubes of Kobbelt et al. ("Feature sensitive surface extraction from volume data",
SIGGRAPH 2001) as a step after marching cubes. If the normals on the boundary of a cell's patch diverge, triangles
around a vertex on the sharp edge or corner replace the patch. Then edges that cross the sharp edge are flipped. A
closed mesh stays closed, with the same components and handles.

The paper is extended in three ways. The place of a feature is refined from nearby points, which tells an edge from a
bend (`qef`). Patches that share a corner are joined (`detect`). Interrupted feature lines are completed
(`extended_marching_cubes`).
"""

from sdfnet.extraction.sharp_features.extended_marching_cubes import sharpen as sharpen
