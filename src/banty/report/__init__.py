"""A run as one page: a self-contained HTML file that anyone may open, and the one sentence that sums it up."""

from banty.report.calibration import calibration_page
from banty.report.headline import headline
from banty.report.microscope import write_look
from banty.report.page import write_report

__all__ = ["calibration_page", "headline", "write_look", "write_report"]
