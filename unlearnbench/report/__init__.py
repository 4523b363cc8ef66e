"""The report: records compared, drawn and told on one page that needs nothing but itself."""

from unlearnbench.report.make import make_report, write_report

__all__ = ["make_report", "write_report"]
