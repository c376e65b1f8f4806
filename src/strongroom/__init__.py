"""Strongroom: machine learning on data and models that nobody but the approved code may see."""

__version__ = "0.1.0"
