"""sdfnet: learn a family of 3D shapes as one neural signed distance field, and get them back as meshes."""
