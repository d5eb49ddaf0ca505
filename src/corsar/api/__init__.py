"""What a person calls from Python: prepare logs, train and evaluate runs, ask a model. The command line adds printing alone."""

from corsar.api.ask import recommend, search
from corsar.api.doctor import doctor
from corsar.api.prepare import prepare_kuaisar, prepare_tables
from corsar.api.runs import evaluate_runs, run_dir, train_run

__all__ = ["doctor", "evaluate_runs", "prepare_kuaisar", "prepare_tables", "recommend", "run_dir", "search", "train_run"]
