from ._barycentric import SurfacePoints as SurfacePoints
from ._camera import Camera as Camera
from ._camera import project as project
from ._icp import IcpConfig as IcpConfig
from ._icp import icp as icp
from ._similarity import Similarity as Similarity
from ._similarity import procrustes_alignment as procrustes_alignment
from ._surface_tree import SurfaceTree as SurfaceTree
