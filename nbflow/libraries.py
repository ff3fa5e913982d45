"""Libraries that are known: which of them may be imported once and then forked with."""

from __future__ import annotations

__all__ = ["KNOWN", "LEARNED"]

LEARNED = "*"
"""Stands in a list of modules for the known libraries that kernels turn out to import."""

KNOWN = frozenset(
    {
        "bs4",
        "dask",
        "h5py",
        "httpx",
        "joblib",
        "lxml",
        "matplotlib",
        "mpl_toolkits",
        "networkx",
        "numpy",
        "openpyxl",
        "pandas",
        "patsy",
        "pyarrow",
        "requests",
        "scipy",
        "seaborn",
        "shapely",
        "sklearn",
        "sqlalchemy",
        "statsmodels",
        "sympy",
        "xarray",
        "yaml",
    }
)
"""Libraries whose import starts nothing that a fork would lose or share.

Computing with them may: nobody does that in a template. Those that hold a GPU (torch, tensorflow, jax, cupy) are not
here and never come in by themselves, nor those that start threads of their own at import (polars).
"""
