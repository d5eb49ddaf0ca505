"""What a person calls from Python: prepare logs, train and evaluate runs, ask a model. The command line adds printing alone."""

from corsar.api.ask import recommend, search
from corsar.api.check import check_data
from corsar.api.compare import compare_runs
from corsar.api.curves import CurveClassifier
from corsar.api.dataset import Dataset
from corsar.api.doctor import doctor
from corsar.api.estimators import BM25, Blend, Corsar, CoVisit, Popularity, SASRec, UniSAR, load
from corsar.api.example import example_check_ins, example_logs
from corsar.api.periods import find_periods, plot_period
from corsar.api.place_estimators import AutoMTN, Habits, Markov, NearestPlace, Visits, VisitsMarkov
from corsar.api.place_page import write_place_page
from corsar.api.places import next_place
from corsar.api.prepare import prepare_foursquare, prepare_jdsearch, prepare_kuaisar, prepare_movielens, prepare_tables
from corsar.api.runs import evaluate_runs, run_dir, train_run

__all__ = [
    "BM25",
    "AutoMTN",
    "Blend",
    "CoVisit",
    "Corsar",
    "CurveClassifier",
    "Dataset",
    "Habits",
    "Markov",
    "NearestPlace",
    "Popularity",
    "SASRec",
    "UniSAR",
    "Visits",
    "VisitsMarkov",
    "check_data",
    "compare_runs",
    "doctor",
    "evaluate_runs",
    "example_check_ins",
    "example_logs",
    "find_periods",
    "load",
    "next_place",
    "plot_period",
    "prepare_foursquare",
    "prepare_jdsearch",
    "prepare_kuaisar",
    "prepare_movielens",
    "prepare_tables",
    "recommend",
    "run_dir",
    "search",
    "train_run",
    "write_place_page",
]
