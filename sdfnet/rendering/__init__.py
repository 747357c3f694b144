"""Pictures, films and contact sheets. Importing it loads neither pyrender nor embree."""

from sdfnet.rendering.camera import Camera as Camera
from sdfnet.rendering.camera import fit_camera as fit_camera
from sdfnet.rendering.images import contact_sheet as contact_sheet
from sdfnet.rendering.images import load_image as load_image
from sdfnet.rendering.images import save_image as save_image
from sdfnet.rendering.pyrender_backend import GLUnavailableError as GLUnavailableError
from sdfnet.rendering.renderer import Renderer as Renderer
from sdfnet.rendering.renderer import render_mesh as render_mesh
from sdfnet.rendering.renderer import render_turntable as render_turntable
from sdfnet.rendering.scene import PaintedMesh as PaintedMesh
from sdfnet.rendering.shapes import RenderConfig as RenderConfig
from sdfnet.rendering.shapes import render_shapes as render_shapes
from sdfnet.rendering.shapes import render_solids as render_solids
from sdfnet.rendering.sphere_tracing import sphere_trace as sphere_trace
from sdfnet.rendering.style import Style as Style
from sdfnet.rendering.video import save_film as save_film
