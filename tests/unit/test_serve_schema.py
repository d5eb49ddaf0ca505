"""Schemathesis feeds the service what its own schema says, and what it does not: nothing of it breaks anything."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

sys.path.insert(0, str(Path(__file__).parent))
from serve_kit import make_runs

from corsar.serve.app import create_app
from corsar.serve.service import Service
from corsar.serve.store import SQLiteStore

CHECKS = [not_a_server_error, content_type_conformance, response_schema_conformance, status_code_conformance]


@pytest.mark.slow
def test_schema_finds_no_fault_of_the_server(tmp_path: Path) -> None:
    service = Service(make_runs(tmp_path), SQLiteStore(tmp_path / "events.sqlite"))
    app = create_app(service)
    schema = schemathesis.openapi.from_asgi("/openapi.json", app)
    statuses: dict[str, set[int]] = {}
    for result in schema.get_all_operations():
        operation = result.ok()

        @settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck), database=None)
        @given(case=operation.as_strategy())
        def ask(case: schemathesis.Case) -> None:
            answered = case.call_and_validate(checks=CHECKS)
            statuses.setdefault(case.operation.label, set()).add(answered.status_code)

        ask()
    service.close()
    assert len(statuses) == 16
    assert {200, 422} <= statuses["POST /v1/recommend"]
    assert all(max(seen) < 500 for seen in statuses.values())
