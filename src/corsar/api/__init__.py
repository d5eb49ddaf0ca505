"""What a person calls from Python: prepare logs, train and evaluate runs, ask a model. The command line adds printing alone."""

from corsar.api.ask import recommend, search
from corsar.api.dataset import Dataset
from corsar.api.doctor import doctor
from corsar.api.estimators import BM25, Blend, CoVisit, Popularity, SASRec, UniSAR, load
from corsar.api.example import example_logs
from corsar.api.prepare import prepare_kuaisar, prepare_tables
from corsar.api.runs import evaluate_runs, run_dir, train_run

__all__ = [
    "BM25",
    "Blend",
    "CoVisit",
    "Dataset",
    "Popularity",
    "SASRec",
    "UniSAR",
    "doctor",
    "evaluate_runs",
    "example_logs",
    "load",
    "prepare_kuaisar",
    "prepare_tables",
    "recommend",
    "run_dir",
    "search",
    "train_run",
]
