"""This module holds the files that a new folder of migrations begins with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

__all__: list[str] = []

_ENV = '''"""Run by `unitwork migrations`, by `await db.migrate()`, and by `alembic`."""

from unitwork.integrations.alembic import run_environment

{imports}

run_environment()
'''
_IMPORT_HINT = "# Import the modules with your models here, so that changes of them are found."

_SCRIPT = '''"""${message}

Revision: ${up_revision}
Follows: ${down_revision | comma,n}
Written: ${create_date}
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
${imports if imports else ""}

revision: str = ${repr(up_revision)}
down_revision: str | Sequence[str] | None = ${repr(down_revision)}
branch_labels: str | Sequence[str] | None = ${repr(branch_labels)}
depends_on: str | Sequence[str] | None = ${repr(depends_on)}


def upgrade() -> None:
    ${upgrades if upgrades else "pass"}


def downgrade() -> None:
    ${downgrades if downgrades else "pass"}
'''


def write_template(directory: Path, models: Sequence[str]) -> None:
    """Write `env.py`, `script.py.mako` and `versions/`.

    Raises:
        FileExistsError: There is an `env.py` already.
    """
    environment = directory / "env.py"
    if environment.exists():
        raise FileExistsError(f"There is a {environment} already.")
    (directory / "versions").mkdir(parents=True, exist_ok=True)
    imports = "\n".join(f"import {name}  # noqa: F401" for name in models) or _IMPORT_HINT
    environment.write_text(_ENV.format(imports=imports), encoding="utf-8")
    (directory / "script.py.mako").write_text(_SCRIPT, encoding="utf-8")
