"""Scores -> places -> metrics -> report."""
