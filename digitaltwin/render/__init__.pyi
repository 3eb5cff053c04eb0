from ._head import head_meshes as head_meshes
from ._portrait import portrait_camera as portrait_camera
from ._portrait import render_head as render_head
from ._shading import Lighting as Lighting
from ._shading import portrait_lighting as portrait_lighting
from ._shading import render_mesh as render_mesh
from ._zbuffer import rasterize as rasterize
