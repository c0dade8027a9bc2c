"""What the guides show: files under their names, for the commands beside them."""

import re
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "docs" / "guide"


def files_of(guide: str) -> dict[str, str]:
    """The files that a guide has its reader save, by their names."""
    return dict(re.findall(r"<!-- file: (\S+) -->\n```\w+\n(.*?)```", guide, flags=re.DOTALL))
