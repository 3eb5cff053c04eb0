from ._version import __version__ as __version__
from .avatar import Avatar as Avatar
from .avatar import AvatarPipeline as AvatarPipeline
from .avatar import create_avatar as create_avatar
from .avatar import make_pipeline as make_pipeline
