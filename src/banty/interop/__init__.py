"""Others' logs as rollouts of ours, ours as tau2-bench's, and its airline domain call by call and grade by grade."""

from banty.interop.golden import GOLDEN, golden_json, read_golden
from banty.interop.importing import KIND, RECORDS, ImportedLog, ImportOptions, read_log, write_import
from banty.interop.places import Place
from banty.interop.sources import FORMATS, LogFormat, Source, find_source
from banty.interop.tau2calls import Tau2Call, read_calls, run_tau2_calls
from banty.interop.tau2data import Tau2Data, load_tau2
from banty.interop.tau2export import ExportAbout, ExportTask, tau2_results
from banty.interop.tau2grade import Tau2Reward, grade_tau2_trajectory
from banty.interop.tau2regrade import Regraded, RegradeReport, regrade_tau2

__all__ = [
    "FORMATS",
    "GOLDEN",
    "KIND",
    "RECORDS",
    "ExportAbout",
    "ExportTask",
    "ImportOptions",
    "ImportedLog",
    "LogFormat",
    "Place",
    "RegradeReport",
    "Regraded",
    "Source",
    "Tau2Call",
    "Tau2Data",
    "Tau2Reward",
    "find_source",
    "golden_json",
    "grade_tau2_trajectory",
    "load_tau2",
    "read_calls",
    "read_golden",
    "read_log",
    "regrade_tau2",
    "run_tau2_calls",
    "tau2_results",
    "write_import",
]
