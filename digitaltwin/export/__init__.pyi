from ._gltf import Material as Material
from ._gltf import Primitive as Primitive
from ._gltf import write_glb as write_glb
from ._head import head_primitives as head_primitives
from ._overview import preview as preview
