"""What runs on a cluster's nodes: techniques, engines, measurement, stages and the store.

Imported as ``autoopt.workers``. Nothing here knows of the controller, the sampler or the report.
"""
