# SPDX-License-Identifier: Apache-2.0
"""report.html: everything that a run says of itself, on one page that needs nothing else."""

from armor_ros.evaluation.report.page import REPORT, write_report

__all__ = ['REPORT', 'write_report']
