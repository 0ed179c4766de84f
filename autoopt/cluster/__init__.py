"""Clusters of one or more nodes: start and stop them on this machine, see who is there, and find out what is wrong.

All is Ray's own: what is here starts ``ray start`` with the right environment, slots and labels, and reads Ray's state over HTTP.
"""
