"""Requests that nobody would write, by the hundred: each gets an answer that the API's description announces."""

import shutil

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance


@pytest.fixture(scope="module")
def operations(photos_run, served, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("nolabel.explorer.places.FEWEST", 10**9)
        folder = shutil.copytree(photos_run, tmp_path_factory.mktemp("fuzz") / "photos")
        schema = schemathesis.openapi.from_url(f"{served(folder)}/openapi.json")
        yield [found.ok() for found in schema.get_all_operations()]


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=["as described", "otherwise"])
def test_every_request_gets_an_answer_of_the_description(operations, mode):
    assert len(operations) == 18
    for operation in operations:

        @given(case=operation.as_strategy(generation_mode=mode))
        @settings(
            max_examples=20, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
        )
        def check(case):
            case.call_and_validate(excluded_checks=[positive_data_acceptance])  # SQL and names of columns are texts

        try:
            check()
        except Unsatisfiable:
            assert mode is GenerationMode.NEGATIVE  # a request without parameters, or with any text, cannot be wrong
        except Exception as error:
            error.add_note(f"{operation.method} {operation.path}")
            raise
