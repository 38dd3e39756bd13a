"""The GitHub workflows run what everybody runs, with no more rights than they need."""

import os
from pathlib import Path

import pytest
import yaml

import bootstrap

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def read(name):
    # YAML 1.1 reads the key `on` as true.
    return yaml.safe_load((ROOT / ".github" / "workflows" / name).read_text(encoding="utf-8"))


def commands(workflow):
    return [step["run"] for job in workflow["jobs"].values() for step in job["steps"] if "run" in step]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_jobs_end_by_themselves_and_may_read_only(file):
    """But for the two jobs that report a failure and publish the site; neither runs code of the repository."""
    workflow = read(file.name)
    assert workflow["permissions"] == {"contents": "read"}
    more = {"report": {"issues": "write"}, "publish": {"pages": "write", "id-token": "write"}}
    for name, job in workflow["jobs"].items():
        assert name == "report" or job["timeout-minutes"] <= 60
        assert job.get("permissions", {}) == more.get(name, {})
        assert name not in more or not any("checkout" in step.get("uses", "") for step in job["steps"])


def test_ci_runs_what_make_test_runs_on_every_push_and_pull_request():
    assert [file.name for file in FILES] == ["ci.yml", "pages.yml", "weekly.yml"]
    workflow = read("ci.yml")
    assert set(workflow[True]) == {"push", "pull_request"}
    assert commands(workflow) == [".ci/run"]
    script = ROOT / ".ci" / "run"
    assert os.name == "nt" or os.access(script, os.X_OK)
    assert script.read_text(encoding="utf-8").rstrip().endswith("exec make test")


def test_ci_runs_on_every_promised_python_and_one_failure_hides_no_other():
    job = read("ci.yml")["jobs"]["test"]
    promised = [f"3.{minor}" for minor in range(bootstrap.LOW[1], bootstrap.HIGH[1] + 1)]
    assert job["strategy"] == {"fail-fast": False, "matrix": {"python": promised}}
    (setup,) = [step for step in job["steps"] if step.get("uses", "").startswith("actions/setup-python@")]
    assert setup["with"]["python-version"] == "${{ matrix.python }}"
    # Two jobs that upload under one name make the second one fail.
    (upload,) = [step for step in job["steps"] if step.get("uses", "").startswith("actions/upload-artifact@")]
    assert "${{ matrix.python }}" in upload["with"]["name"]


def test_once_a_week_the_newest_versions_run_and_a_failure_becomes_an_issue():
    workflow = read("weekly.yml")
    assert "schedule" in workflow[True]
    upgrade, test, alone, report = commands(workflow)
    assert upgrade.startswith("make lock UPGRADE=1") and test == ".ci/run"
    assert alone == ".venv/bin/python tests/alone.py"
    assert workflow["jobs"]["report"]["if"] == "failure()" and workflow["jobs"]["report"]["needs"] == "newest"
    assert "gh issue create" in report and "gh issue comment" in report


def test_the_site_of_main_is_published_where_the_repository_has_pages():
    workflow = read("pages.yml")
    assert workflow[True]["push"] == {"branches": ["main"]}
    build, publish = workflow["jobs"]["build"], workflow["jobs"]["publish"]
    assert build["if"] == "github.event.repository.has_pages" and publish["needs"] == "build"
    assert commands(workflow) == ["make site"]
    upload, deploy = build["steps"][-1], publish["steps"][-1]
    assert upload["uses"].startswith("actions/upload-pages-artifact@") and upload["with"] == {"path": "build/site"}
    assert deploy["uses"].startswith("actions/deploy-pages@")
    assert build["steps"][0]["with"]["fetch-depth"] == 0  # the dates of the claims are git's
