"""Mesh files: one module for each format, and one table of all formats in `formats`.

A format's module has a function `parse_*` from bytes to polygons, a function `format_*` from a mesh to bytes, or both.

The readers of trimesh are not used. They triangulate concave polygons by fans, round text vertices of PLY to float32,
split vertices by texture coordinates, silently ignore sparse and normalised glTF accessors, open images, and refuse
UTF-16 and relative OBJ indices.

Parsers raise ValueError with a reason but without the file's name, which they do not know. `sdfnet.mesh.io.read` adds
the name. It also catches every other exception, because damaged bytes may cause any error. Such messages read worse.
"""
