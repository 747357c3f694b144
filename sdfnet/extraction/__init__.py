"""From fields to triangle meshes."""

from sdfnet.extraction.extract import extract_mesh as extract_mesh
from sdfnet.extraction.normals import with_field_normals as with_field_normals
from sdfnet.extraction.projection import project_to_level as project_to_level
