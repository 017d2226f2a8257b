"""Helpers of the black-box tests: processes, raw HTTP, a scripted worker, an OTLP receiver."""
