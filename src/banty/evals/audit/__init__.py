"""The audit of leakage: what test tasks share with training tasks, and whether a result may be called held-out."""

from banty.evals.audit.beside import AUDIT_FILE, AuditFile, Standing, read_audit, standing_of
from banty.evals.audit.findings import Finding
from banty.evals.audit.sources import (
    Opening,
    open_tasks,
    spoken_task,
    tasks_of_card,
    tasks_of_split,
    tasks_of_store,
    together,
)
from banty.evals.audit.tasks import AuditedTask, TaskSet
from banty.evals.audit.verdict import FORMAT, Audit, audit, refusal

__all__ = [
    "AUDIT_FILE",
    "FORMAT",
    "Audit",
    "AuditFile",
    "AuditedTask",
    "Finding",
    "Opening",
    "Standing",
    "TaskSet",
    "audit",
    "open_tasks",
    "read_audit",
    "refusal",
    "spoken_task",
    "standing_of",
    "tasks_of_card",
    "tasks_of_split",
    "tasks_of_store",
    "together",
]
