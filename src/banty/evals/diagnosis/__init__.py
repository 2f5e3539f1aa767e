"""Why episodes fail: where each left the reference calls, how far it came, what failures show that passes do not."""

from banty.evals.diagnosis.causes import CAUSES, STAGES, Finding, Reference, find_cause
from banty.evals.diagnosis.tables import compare_diagnoses, diagnose

__all__ = ["CAUSES", "STAGES", "Finding", "Reference", "compare_diagnoses", "diagnose", "find_cause"]
