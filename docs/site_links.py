"""Hook of the documentation's site: a link that leaves ``docs/`` becomes the name of the file.

The pages are read in the repository too, where such links lead to the file.
"""

from __future__ import annotations

import re
from typing import Any

_OUTSIDE = re.compile(r"\[([^\]]*)\]\((?:\.\./)+([^)#]*)[^)]*\)")


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Return the text of a page with its links to files outside ``docs/`` replaced."""
    return _OUTSIDE.sub(lambda link: f"{link[1]} (`{link[2]}` in the repository)", markdown)
