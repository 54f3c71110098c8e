"""Templates, style and script of the report page; read by tvm_rsq.report.page."""
