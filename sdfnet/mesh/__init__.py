"""Triangle meshes: edges, components, orientation, topology, distances, repair, union, remeshing, files."""
