"""``samcmp fetch`` as its user meets it: what it prints, and its exit code."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from samcmp.data import cards
from tests.places import MIRROR, ROOT, needs_mirror


def fetch(*arguments: object, cache: Path, mirror: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command with no network: every name of a host is refused by a proxy that is not there."""
    import os

    changed = {"SAMCMP_CACHE": str(cache), "COLUMNS": "100", "https_proxy": "http://127.0.0.1:9", "no_proxy": ""}
    environment = {key: value for key, value in os.environ.items() if not key.startswith("SAMCMP_")} | changed
    if mirror:
        environment["SAMCMP_MIRROR"] = str(mirror)
    command = [sys.executable, "-m", "samcmp", "fetch", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=120)


@needs_mirror
def test_a_bundle_takes_every_file_to_a_machine_without_network(tmp_path: Path) -> None:
    bundle = tmp_path / "all.tar"
    packed = fetch("esol", "bbbp", "demo", "--bundle", bundle, cache=tmp_path / "a", mirror=MIRROR)
    assert packed.returncode == 0, packed.stderr
    assert "2 files" in packed.stderr
    there = fetch("esol", "bbbp", "--from", bundle, "--format", "json", cache=tmp_path / "b")
    assert there.returncode == 0, there.stderr
    states = {row["dataset"]: row["state"] for row in json.loads(there.stdout)}
    assert states == {"esol": "fetched", "bbbp": "fetched"}
    again = fetch("bbbp", cache=tmp_path / "b")
    assert "was there" in again.stdout


def test_without_network_the_message_names_file_url_and_way_out(tmp_path: Path) -> None:
    done = fetch("qm9", cache=tmp_path)
    assert done.returncode == 2
    for piece in ("qm9.csv", cards.find("qm9").url, "--from FOLDER", "SAMCMP_MIRROR=FOLDER"):
        assert piece in done.stderr
    assert "Traceback" not in done.stderr


def test_after_one_failure_for_want_of_a_network_the_others_are_not_waited_for(tmp_path: Path) -> None:
    done = fetch("--all", "--format", "json", cache=tmp_path)
    assert done.returncode == 2
    rows = {row["dataset"]: row for row in json.loads(done.stdout)}
    assert rows["demo"]["state"] == "was there"
    assert {rows[name]["reason"] for name in ("esol", "tox21")} == {"not tried after the first one failed"}
    missing = [name for name, row in rows.items() if row["state"] == "missing"]
    assert missing == [name for name in rows if not cards.find(name).built_in]
    assert f"{len(missing)} of {len(rows)} datasets could not be fetched" in done.stderr


@needs_mirror
def test_a_mirror_without_one_file_gives_the_others(tmp_path: Path) -> None:
    done = fetch("esol", "qm9", "freesolv", "--format", "json", cache=tmp_path, mirror=MIRROR)
    assert done.returncode == 2
    assert [row["state"] for row in json.loads(done.stdout)] == ["fetched", "missing", "fetched"]
    assert "1 of 3 datasets could not be fetched: qm9" in done.stderr


@needs_mirror
def test_an_audit_is_a_table_or_json_on_the_screen_or_in_a_file(tmp_path: Path) -> None:
    shown = fetch("--audit", "bbbp", cache=tmp_path, mirror=MIRROR)
    assert shown.returncode == 0, shown.stderr
    for piece in ("2,039 used, 11 left out", "10 of 60 groups have different labels", "1,560", "greater", "685"):
        assert piece in shown.stdout
    output = tmp_path / "audit.json"
    written = fetch("--audit", "bbbp", "--format", "json", "--output", output, cache=tmp_path, mirror=MIRROR)
    assert (written.returncode, written.stdout) == (0, "")
    assert json.loads(output.read_text())["duplicates"]["conflicting_groups"] == 10


def test_an_audit_of_a_users_csv_says_the_guess_and_lists_the_skipped(tmp_path: Path) -> None:
    path = tmp_path / "my.csv"
    path.write_text("smiles,active\nC,0\nCC,1\n[bold]x[/],1\nCCO,0\n")
    done = fetch("--audit", "--data", path, "--target", "active", cache=tmp_path / "c")
    assert done.returncode == 0, done.stderr
    assert "guessed to be classification" in done.stdout
    assert "'[bold]x[/]'" in done.stdout  # shown as it is, never read as markup


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "no dataset is named"),
        (["esoll"], "Did you mean 'esol'"),
        (["esol", "--format", "yaml"], "unknown format 'yaml'"),
        (["esol", "--from", "nowhere.tar"], "no such bundle"),
        (["esol", "--from", "nowhere"], "no such folder"),
        (["--cards", "nowhere", "--all"], "no such folder"),
        (["--data", "nowhere.csv", "--target", "x"], "no such file"),
        (["demo", "--audit", "--output", "README.md/audit.txt"], "README.md is a file, not a folder"),
    ],
)
def test_wrong_input_is_one_message_and_exit_code_2(arguments: list[str], said: str, tmp_path: Path) -> None:
    done = fetch(*arguments, cache=tmp_path)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
