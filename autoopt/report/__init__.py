"""What a finished (or interrupted) job shows to people and to pandas: a page, a text, two tables, and the shell's lines."""

from autoopt.report.data import Exclusion, ReportData, Row, TaskFacts
from autoopt.report.terminal import front_table, progress_line
from autoopt.report.write import write_report

__all__ = ["Exclusion", "ReportData", "Row", "TaskFacts", "front_table", "progress_line", "write_report"]
