"""The command line: the one room that joins all others."""

from __future__ import annotations

import sys

from banty.errors import BantyError


def main() -> None:
    """The `banty` command. Exit status 2 and one sentence for wrong input, 130 after Ctrl-C."""
    from banty.cli.app import app
    from banty.cli.plain import visible
    from banty.cli.running import Interrupted

    try:
        app()
    except Interrupted as stopped:
        print(f"\n{stopped}", file=sys.stderr)
        sys.exit(130)
    except BantyError as error:
        print(f"error: {visible(str(error))}", file=sys.stderr)
        sys.exit(2)
