from ._photo import Avatar as Avatar
from ._photo import AvatarPipeline as AvatarPipeline
from ._photo import create_avatar as create_avatar
from ._photo import make_pipeline as make_pipeline
from ._scan import avatar_from_scan as avatar_from_scan
