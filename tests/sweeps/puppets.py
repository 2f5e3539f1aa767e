"""What the worker processes of tests do: functions that a spawned process can import."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

from banty.errors import InputError
from banty.sweeps import Tell


def work(item: Any, tell: Tell) -> Any:
    match item:
        case "pid":
            return os.getpid()
        case "threads":
            return os.environ["OMP_NUM_THREADS"]
        case "input error":
            raise InputError("this is no input")
        case "bug":
            return [][1]
        case "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        case "exits":
            os._exit(3)
        case "interrupted":
            os.kill(os.getpid(), signal.SIGINT)
            return "went on"
        case ("write and wait", file):
            Path(file).write_text(str(os.getpid()))
            tell("waiting")
            time.sleep(60)
    tell(("told", item))
    return item
