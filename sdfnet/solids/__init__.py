"""From a mesh file to a solid: repair a mesh, check a folder of meshes, and report on each shape."""
