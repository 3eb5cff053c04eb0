from ._completion import complete_texture as complete_texture
from ._eyes import eye_texture as eye_texture
from ._layout import make_layout as make_layout
from ._projection import project_texture as project_texture
from ._skins import apply_tone as apply_tone
from ._skins import nearest_skin as nearest_skin
