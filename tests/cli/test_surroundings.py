"""Whatever surrounds a command (streams, folders, variables, limits), it works or says in one message what to do."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from samcmp.cli import diagnosis, process
from samcmp.experiment.store import Store
from tests.commands import Run, tiny

ONE_SPLIT = tiny("--repeats", "1")
SAMCMP = f"{shlex.quote(sys.executable)} -m samcmp"
CODE = "\x1b["
ERROR = re.compile(r"^error: .+: .+\n.+", re.MULTILINE)  # where and what, then the remedy


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a finished comparison on one test set."""
    store = tmp_path_factory.mktemp("finished") / "store"
    words = ["compare", *ONE_SPLIT, "-o", "adam", "-o", "sam", "--store", str(store)]
    subprocess.run([sys.executable, "-m", "samcmp", *words], check=True, capture_output=True)
    return store


@pytest.fixture
def shell(tmp_path: Path, finished: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a line of bash in an empty folder, where ``$STORE`` is a copy of the finished store."""
    shutil.copytree(finished, tmp_path / "store")

    def call(line: str, **variables: str | None) -> subprocess.CompletedProcess[str]:
        kept = {k: v for k, v in os.environ.items() if k not in {"COLUMNS", "FORCE_COLOR", "NO_COLOR"}}
        environment = {**kept, "STORE": str(tmp_path / "store"), "samcmp": SAMCMP, **variables}
        given = {name: value for name, value in environment.items() if value is not None}
        words = ["bash", "-o", "pipefail", "-c", line.replace("samcmp ", f"{SAMCMP} ")]
        return subprocess.run(words, cwd=tmp_path, env=given, capture_output=True, text=True, timeout=120)

    return call


Shell = Callable[..., subprocess.CompletedProcess[str]]


@dataclass(frozen=True)
class Try:
    """A line of bash in a surrounding, its exit code, and what it must and must not print."""

    line: str
    code: int = 0
    out: str = ""  # in standard output
    err: str = ""  # in standard error
    variables: dict[str, str | None] = field(default_factory=dict)


REPORT = "samcmp report --store $STORE"
ON_A_TERMINAL = f"{shlex.quote(sys.executable)} -c 'import pty, sys; pty.spawn(sys.argv[1:])'"
TABLE = "Use adam"
STREAMS = {
    "no standard output": Try(f"{REPORT} >&-"),
    "no standard error": Try(f"{REPORT} 2>&-", out=TABLE),
    "no standard input": Try(f"{REPORT} <&-", out=TABLE),
    "no stream at all": Try(f"{REPORT} >&- 2>&- <&-"),
    "no stream, and a mistake": Try("samcmp report --store none >&- 2>&- <&-", code=2),
    "no standard output while a file is written": Try(f"{REPORT} --output t >&-; head -1 t", out=TABLE),
    "a reader that has gone": Try(f"{REPORT} | true", code=141),
    "a reader that has gone, of a text": Try(f"{REPORT} --format csv | true", code=141),
    "a full disk behind the output": Try(f"{REPORT} >/dev/full", code=2, err="standard output: cannot be written"),
    "a full disk behind everything": Try(f"{REPORT} >/dev/full 2>/dev/full", code=2),
    "a full disk behind the errors": Try("samcmp report --store none 2>/dev/full", code=2),
    "the output by its name": Try(f"{REPORT} --format csv --output /dev/stdout", out="cell,dataset"),
    "the output by its name, appended": Try(
        f"echo first > t; {REPORT} --format csv --output /dev/stdout >> t; cat t", out="first\ncell,dataset"
    ),
    "the output by its name, after a line": Try(
        f"(echo first; {REPORT} --format csv --output /dev/stdout; echo last) > t; cat t", out="first\ncell,dataset"
    ),
    "a process instead of a file": Try(f"{REPORT} --format csv --output >(cat); sleep 0.2", out="cell,dataset"),
    "a pipe instead of a file": Try(
        f"mkfifo p; (cat p > t &) ; {REPORT} --format csv --output p; sleep 0.2; test -p p; cat t", out="cell,dataset"
    ),
    "a binary file into the output's name": Try(
        f"{REPORT} --format parquet --output /dev/stdout >t; head -c 4 t", out="PAR1"
    ),
    "the null device": Try(f"{REPORT} --output /dev/null; test -c /dev/null"),
    "a descriptor that is not open": Try(f"{REPORT} --output /dev/fd/77", code=2, err="cannot be written"),
    "a current folder that is gone": Try(
        f"mkdir d; cd d; rmdir ../d; {REPORT}", code=2, err="current folder: has been deleted"
    ),
    "help in a current folder that is gone": Try("mkdir d; cd d; rmdir ../d; samcmp --help", out="Usage"),
}


EACH = "for f in $STORE/predictions/*/*.npz; do"
# Of SAM's speed: without it the rest is a comparison. The order of Records is that of their keys, which code changes.
ONE_RECORD = """r=$(grep -l '"kind": "profile"' $(grep -l '"optimizer": "sam"' $STORE/records/*/*.json))"""
SAME = f"compare {shlex.join(ONE_SPLIT)} -o adam -o sam --store $STORE"
STORES = {
    "empty predictions": Try(f"{EACH} : > $f; done; {REPORT}", out=TABLE, err="left out, damaged: "),
    "cut predictions": Try(f"{EACH} truncate -s 90 $f; done; {REPORT}", out=TABLE, err="left out, damaged: "),
    "cut predictions, compared again": Try(
        f"{EACH} truncate -s 90 $f; done; samcmp {SAME}", out=TABLE, err="left out, damaged: "
    ),
    "predictions that are pipes": Try(f"{EACH} rm $f; mkfifo $f; done; {REPORT}", out=TABLE, err="is a pipe"),
    "a cut record": Try(f"{ONE_RECORD}; truncate -s 90 $r; {REPORT}", out=TABLE, err="left out, damaged: "),
    "a record that is a folder": Try(f"{ONE_RECORD}; rm $r; mkdir $r; {REPORT}", out=TABLE, err="is a folder"),
    "a record that is a link to nothing": Try(
        f"{ONE_RECORD}; rm $r; ln -s nowhere $r; {REPORT}", out=TABLE, err="is a link to nothing"
    ),
    "a record that is a pipe": Try(f"{ONE_RECORD}; rm $r; mkfifo $r; {REPORT}", out=TABLE, err="is a pipe"),
    "a record that is a device": Try(
        f"{ONE_RECORD}; rm $r; ln -s /dev/zero $r; {REPORT}", out=TABLE, err="is a pipe, a socket or a device"
    ),
    "a record that is a folder, compared again": Try(
        f"{ONE_RECORD}; rm $r; mkdir $r; samcmp {SAME}", code=2, err="is a folder"
    ),
    "a cut record, compared again": Try(
        f"{ONE_RECORD}; truncate -s 90 $r; samcmp {SAME}", out=TABLE, err="run again, damaged: "
    ),
    "records that are a file": Try(f"rm -r $STORE/records; : > $STORE/records; {REPORT}", code=2, err="no results"),
    "a suite file with a mark": Try(
        "(printf '\\xef\\xbb\\xbf'; echo '[suites.a]') > b.toml; samcmp compare --config b.toml --dry-run",
        code=2, err="b.toml: suites.a.title: ",
    ),
    "a suite file with 5,000 digits": Try(
        "printf 'a = %05000d1' 0 | tr 0 1 > b.toml; samcmp compare --config b.toml", code=2, err="b.toml: is not TOML"
    ),
    "a card with 5,000 digits": Try(
        "mkdir c; printf 'a = %05000d1' 0 | tr 0 1 > c/b.toml; samcmp train -d b --cards c",
        code=2, err="b.toml: is not TOML",
    ),
    "a card that is a pipe": Try(
        "mkdir c; mkfifo c/b.toml; samcmp train -d b --cards c", code=2, err="b.toml: is no file"
    ),
    "a baseline nested deeply": Try(
        f"python3 -c 'print(\"[\" * 100000)' > b.json; {REPORT} --baseline b.json", code=14, err="not a baseline"
    ),
}  # fmt: skip


def check(done: subprocess.CompletedProcess[str], wanted: Try) -> None:
    assert done.returncode == wanted.code, done.stderr
    assert wanted.out in done.stdout
    assert wanted.err in done.stderr
    for text in (done.stdout, done.stderr):
        assert "Traceback" not in text
        assert "Aborted" not in text
        assert "Exception ignored" not in text
    if wanted.err and wanted.code == 2:
        assert ERROR.search(done.stderr), "an error says where, what and what to do"


@pytest.mark.slow
@pytest.mark.parametrize("name", STREAMS)
def test_every_kind_of_stream_takes_the_output_or_is_named(shell: Shell, name: str) -> None:
    check(shell(STREAMS[name].line), STREAMS[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", STORES)
def test_a_damaged_or_foreign_store_or_file_is_named_and_the_rest_is_shown(shell: Shell, name: str) -> None:
    check(shell(STORES[name].line), STORES[name])


DRAW = f"{REPORT} --output /dev/null --figure front=p.svg --figure curves=c.png --figure front=p.pdf"
MATPLOTLIB = {  # matplotlibrc, variables
    "a notebook, and mistakes": (
        "axes.prop_cycle: 5\nno such key: 1\nsavefig.bbox: x",
        {"MPLBACKEND": "module://matplotlib_inline.backend_inline"},
    ),
    "a backend that is none, and TeX": ("text.usetex: True", {"MPLBACKEND": "nonsense"}),
    "no home, other colours and sizes": (
        "axes.facecolor: red\nfont.size: 40\nsavefig.dpi: 30\nbackend: TkAgg",
        {"HOME": "/nonexistent", "XDG_CONFIG_HOME": None, "XDG_CACHE_HOME": None, "MPLBACKEND": "TkAgg"},
    ),
}


@pytest.mark.slow
def test_figures_are_the_same_in_whatever_surrounding_matplotlib_is(shell: Shell, tmp_path: Path) -> None:
    drawn = {}
    for name, (rc, variables) in {"nothing": ("", {}), **MATPLOTLIB}.items():
        (tmp_path / "matplotlibrc").write_text(rc)
        done = shell(DRAW, **variables)
        assert (name, done.returncode) == (name, 0), done.stderr
        assert [line for line in done.stderr.splitlines() if not line.startswith("wrote ")] == []
        drawn[name] = [(tmp_path / file).read_bytes() for file in ("p.svg", "c.png", "p.pdf")]
    assert [name for name in drawn if drawn[name] != drawn["nothing"]] == []


@pytest.mark.slow
def test_a_matplotlibrc_that_is_no_text_is_one_message(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "matplotlibrc").write_bytes(b"\xff\xfe")
    check(shell(DRAW), Try(DRAW, code=2, err="matplotlib cannot be imported: UnicodeDecodeError"))


@pytest.mark.slow
@pytest.mark.parametrize("form", ["csv", "json", "markdown", "latex"])
def test_a_forced_color_does_not_reach_what_programs_read(shell: Shell, form: str) -> None:
    done = shell(f"{REPORT} --format {form}", FORCE_COLOR="1")
    assert done.returncode == 0
    assert CODE not in done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("line", "variables", "colored"),
    [
        (REPORT, {"FORCE_COLOR": "1"}, True),
        (REPORT, {"FORCE_COLOR": "1", "NO_COLOR": "1"}, False),
        (REPORT, {"TERM": "xterm-256color"}, False),
        (f"{ON_A_TERMINAL} {REPORT}", {"TERM": "xterm-256color"}, True),
        (f"{ON_A_TERMINAL} {REPORT}", {"TERM": "dumb"}, False),
        (f"{ON_A_TERMINAL} samcmp train --subset 40 --epochs 2 --device cpu", {"TERM": "dumb"}, False),
        (f"{REPORT} --output t; cat t", {"FORCE_COLOR": "1"}, False),
        ("samcmp report --store none 2>&1; true", {"FORCE_COLOR": "1"}, False),
        (
            f"samcmp compare {shlex.join(ONE_SPLIT)} -o adam --plain --store new 2>&1 >/dev/null",
            {"FORCE_COLOR": "1"},
            False,
        ),
        ("samcmp train --subset 40 --epochs 2 --device cpu 2>&1 >/dev/null", {"FORCE_COLOR": "1"}, False),
    ],
)
def test_escape_codes_are_in_a_log_only_where_they_were_asked_for(
    shell: Shell, line: str, variables: dict[str, str], colored: bool
) -> None:
    done = shell(line, **variables)
    assert done.returncode == 0, done.stderr
    assert (CODE in done.stdout) is colored


SCREEN = {"pydantic", "rich", "typer"}  # what reads commands and prints
PACKAGES = sorted(
    {re.split("[>;]", text)[0] for text in importlib.metadata.requires("samcmp") or () if "extra" not in text} - SCREEN
)
BREAKS = (
    "raise ImportError('libnone.so.1: cannot open shared object file')",
    "raise OSError('libnone.so.1: cannot open shared object file: No such file or directory')",
    "raise SystemExit(0)",
    "1 / 0",
)


def broken(folder: Path, *names: str, by: str = BREAKS[0]) -> str:
    """Make packages that break as they are imported; return the path on which they hide the good ones."""
    for package in names:
        name = diagnosis.MODULES.get(package, package.replace("-", "_"))
        (folder / "broken" / name).mkdir(parents=True)
        (folder / "broken" / name / "__init__.py").write_text(by)
    return str(folder / "broken")


@pytest.mark.slow
@pytest.mark.parametrize("by", BREAKS)
def test_doctor_names_every_package_that_cannot_be_imported(shell: Shell, tmp_path: Path, by: str) -> None:
    done = shell("samcmp doctor --format json", PYTHONPATH=broken(tmp_path, *PACKAGES, by=by))
    assert done.returncode == 1, done.stderr
    states = {finding["what"]: finding for finding in json.loads(done.stdout)}
    for name in PACKAGES:
        finding = states[name]
        assert (finding["state"], "cannot be imported" in finding["found"]) == ("missing", True)
        assert finding["remedy"]
    assert "store" in states


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(SCREEN))
def test_doctor_says_the_same_where_what_reads_commands_and_prints_is_broken(
    shell: Shell, tmp_path: Path, name: str
) -> None:
    done = shell("samcmp doctor", PYTHONPATH=broken(tmp_path, name, *PACKAGES))
    assert done.returncode in {1, 2}
    for package in (name, *PACKAGES):
        assert re.search(rf"missing +{package}:", done.stdout)
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("line", [REPORT, "samcmp train --epochs 1 --subset 40", f"{REPORT} --figure front=p.svg"])
@pytest.mark.parametrize("by", BREAKS[:2])
def test_a_package_that_cannot_be_imported_is_one_message(shell: Shell, tmp_path: Path, line: str, by: str) -> None:
    done = shell(line, PYTHONPATH=broken(tmp_path, "numpy", "torch", "matplotlib", by=by))
    check(done, Try(line, code=2, err="samcmp doctor"))


NOBODY = "unshare --user --map-user=12345 --map-group=12345"  # a user that no file knows, and no more rights than hers
LESS = {
    "doctor without a home": Try(f"{NOBODY} samcmp doctor", code=1, out="SAMCMP_CACHE"),
    "a list without a home": Try(f"{NOBODY} samcmp list datasets", out="bbbp"),
    "a report without a home": Try(f"{NOBODY} {REPORT}", out=TABLE),
    "a comparison without a home": Try(
        f"{NOBODY} samcmp {SAME}-2", code=2, err="the cache folder: there is no home folder"
    ),
    "a fetch without a home": Try(
        f"{NOBODY} samcmp fetch bbbp", code=2, err="the cache folder: there is no home folder"
    ),
    "a store that is read only": Try(f"chmod -R a-w $STORE; {NOBODY} {REPORT}", out=TABLE),
    "a finished comparison in a store that is read only": Try(
        f"chmod -R a-w $STORE; {NOBODY} samcmp {SAME}", out=TABLE
    ),
    "a comparison in a store that is read only": Try(
        f"chmod -R a-w $STORE; {NOBODY} samcmp {SAME} -o graphsam", code=2, err="no permission to write"
    ),
    "a store that may not be read": Try(f"chmod 0 $STORE/records; {NOBODY} {REPORT}", code=2, err="cannot be read"),
    "a record that may not be read": Try(
        f"{ONE_RECORD}; chmod 0 $r; {NOBODY} {REPORT}", out=TABLE, err="cannot be read: Permission denied"
    ),
    "a file in a folder that takes no new ones": Try(
        f"mkdir d; echo old > d/t; chmod a-w d; {NOBODY} {REPORT} --output d/t; cat d/t", out=TABLE
    ),
    "a new file in a folder that takes none": Try(
        f"mkdir d; chmod a-w d; {NOBODY} {REPORT} --output d/t", code=2, err="no permission to write"
    ),
    "a file that may not be written": Try(
        f"echo old > t; chmod a-w t; {NOBODY} {REPORT} --output t", code=2, err="no permission to write"
    ),
}  # fmt: skip


MOUNTS = "unshare --map-root-user --mount bash -c"  # mounts of its own
LESS |= {
    "a file that is mounted by itself": Try(
        f"echo old > t; echo a longer one > m; {MOUNTS} 'mount --bind m t; {REPORT} --format csv --output t'; cat m",
        out="cell,dataset",
    ),
    "a full disk": Try(
        f"mkdir d; {MOUNTS} 'mount -t tmpfs -o size=4k none d; {REPORT} --format json --output d/t'",
        code=2, err="the disk is full",
    ),
    "a disk that is read only": Try(
        f"mkdir d; {MOUNTS} 'mount -t tmpfs -o ro none d; {REPORT} --output d/t'", code=2, err="d",
    ),
    "a file on a disk that is read only, mounted to be written": Try(
        f"mkdir d; echo old > m; {MOUNTS} 'mount -t tmpfs none d; touch d/t; mount --bind m d/t; "
        f"mount -o remount,ro,bind d; {REPORT} --format csv --output d/t'; cat m",
        out="cell,dataset",
    ),
    "a store on a disk that is read only": Try(
        f"{MOUNTS} 'mount --bind $STORE $STORE; mount -o remount,ro,bind $STORE; {REPORT}'", out=TABLE
    ),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.skipif(
    subprocess.run([*NOBODY.split(), "true"], capture_output=True).returncode != 0,
    reason="this system gives no user name spaces",
)
@pytest.mark.parametrize("name", LESS)
def test_a_user_without_a_home_or_rights_works_or_is_told(shell: Shell, tmp_path: Path, name: str) -> None:
    bare = {"HOME": None, "XDG_CACHE_HOME": None, "SAMCMP_CACHE": None, "SAMCMP_MIRROR": None}
    try:
        check(shell(LESS[name].line, **bare), LESS[name])
    finally:
        subprocess.run(["chmod", "-R", "u+rwX", tmp_path], check=True)


SYSTEM = {
    EOFError(): "a file or a pipe ended too early",
    PermissionError(13, "Permission denied", "some.file"): "some.file: Permission denied",
    OSError(24, "Too many open files", "/dev/urandom"): "/dev/urandom: Too many open files",
    OSError(28, "No space left on device"): "No space left on device",
    OSError("libx.so: cannot open shared object file"): "a library cannot be loaded",
    ImportError("No module named 'x'", name="x"): "a package that samcmp needs cannot be imported",
}


@pytest.mark.parametrize("error", SYSTEM, ids=repr)
def test_what_the_system_refuses_at_any_place_is_one_message_with_a_remedy(
    run: Run, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def refuse(_: object) -> None:
        raise error

    monkeypatch.setattr(Store, "records", refuse)
    code, out, err = run("report")
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert SYSTEM[error] in err
    assert len(err.splitlines()) == 2


@pytest.mark.parametrize("error", [ValueError("x"), OSError("not the system's"), ImportError("x", name="samcmp.none")])
def test_a_fault_of_samcmp_itself_is_not_taken_for_one_of_the_system(
    run: Run, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def refuse(_: object) -> None:
        raise error

    monkeypatch.setattr(Store, "records", refuse)
    with pytest.raises((ValueError, OSError, ImportError, process.Carried)):
        run("report")
