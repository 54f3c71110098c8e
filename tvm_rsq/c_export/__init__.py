"""Deployments without Python: a shared library, a C header, and C++ that runs it on TVM's runtime alone."""
