"""Reading what other systems wrote: logs of tau2-bench, verifiers and TRL as rollouts of ours."""

from banty.interop.golden import GOLDEN, golden_json, read_golden
from banty.interop.importing import KIND, RECORDS, ImportedLog, ImportOptions, read_log, write_import
from banty.interop.places import Place
from banty.interop.sources import FORMATS, LogFormat, Source, find_source

__all__ = [
    "FORMATS",
    "GOLDEN",
    "KIND",
    "RECORDS",
    "ImportOptions",
    "ImportedLog",
    "LogFormat",
    "Place",
    "Source",
    "find_source",
    "golden_json",
    "read_golden",
    "read_log",
    "write_import",
]
