"""Reports of evaluations: one JSON of `model.results`, one HTML page made from it alone, videos beside both.

`evaluation_results` turns metric tables and what to draw into a results file; `write_evaluation_report` turns one or
several results files into a page; `write_side_by_side` makes its videos.
"""

from __future__ import annotations

from model.evaluation.report.build import ReportTable, curve_plot, evaluation_results, figure_name
from model.evaluation.report.page import write_evaluation_report
from model.evaluation.report.record import Curve, CurvePlot, HistogramPlot, Mark, ScatterPlot, VideoRecord
from model.evaluation.report.video import Panel, write_side_by_side

__all__ = [
    "Curve",
    "CurvePlot",
    "HistogramPlot",
    "Mark",
    "Panel",
    "ReportTable",
    "ScatterPlot",
    "VideoRecord",
    "curve_plot",
    "evaluation_results",
    "figure_name",
    "write_evaluation_report",
    "write_side_by_side",
]
