"""From fields to triangle meshes."""

from sdfnet.surfacing.extract import extract_mesh as extract_mesh
from sdfnet.surfacing.projection import project_to_level as project_to_level
from sdfnet.surfacing.shading import with_field_normals as with_field_normals
