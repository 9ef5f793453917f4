"""What a gate found, for the machinery of continuous integration: JSON, JUnit XML, and a summary in Markdown."""

from __future__ import annotations

import json
import re
from xml.etree import ElementTree

from samcmp.analysis.gate import OK, Finding, Gate
from samcmp.printable import printable, printable_json
from samcmp.report.grid import Column, Entry, Grid
from samcmp.report.markdown import grid_lines

WORDS = {
    0: "nothing got worse",
    10: "accuracy got worse, or a run failed",
    11: "speed got worse",
    12: "peak memory grew",
    13: "not enough evidence",
    14: "no baseline to compare with",
}
_NO_XML = re.compile("[\ufffe\uffff]")  # of what is left after `printable`, these alone may not stand in XML


def to_json(gate: Gate) -> str:
    """Return the exit code, what it means, and every check with its own code."""
    checks = [
        {"check": f.check, "where": f.where, "found": f.what, "passed": f.code == OK, "exit_code": f.code}
        for f in gate.findings
    ]
    found = {"schema": 1, "exit_code": gate.code, "verdict": WORDS[gate.code], "checks": checks}
    return printable_json(json.dumps(found, indent=1, ensure_ascii=False)) + "\n"


def to_junit(gate: Gate) -> str:
    """Return a test suite with a case a check: the class is the cell and the arm, the name what was checked.

    What ends the command with another code than 0 is a failure, too little evidence included: the job fails by it.
    """
    failures = sum(f.code != OK for f in gate.findings)
    numbers = {"tests": str(len(gate.findings)), "failures": str(failures), "errors": "0"}
    root = ElementTree.Element("testsuites", {"name": "samcmp", **numbers})
    suite = ElementTree.SubElement(root, "testsuite", {"name": "samcmp gate", "skipped": "0", **numbers})
    for finding in gate.findings:
        case = ElementTree.SubElement(
            suite, "testcase", {"classname": _xml(finding.where), "name": _xml(finding.check), "time": "0"}
        )
        if finding.code == OK:
            ElementTree.SubElement(case, "system-out").text = _xml(finding.what)
        else:
            kind = f"{WORDS[finding.code]} (exit code {finding.code})"
            ElementTree.SubElement(case, "failure", {"type": kind, "message": _xml(finding.what)}).text = _xml(
                f"{finding.where}: {finding.what}"
            )
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=False).join(
        ['<?xml version="1.0" encoding="UTF-8"?>\n', "\n"]
    )


def _xml(text: str) -> str:
    return _NO_XML.sub("?", printable(text))


def to_markdown(gate: Gate) -> str:
    """Return a heading that says how it ended, a table of what is wrong, and what is fine folded away."""
    passed = [f for f in gate.findings if f.code == OK]
    wrong = [f for f in gate.findings if f.code != OK]
    sign = "✅" if gate.code == OK else "❌"
    lines = [f"### {sign} samcmp: {WORDS[gate.code]}", ""]
    lines += [f"{len(passed)} of {len(gate.findings)} checks passed; exit code {gate.code}.", ""]
    if wrong:
        lines += [*_table(wrong), ""]
    if passed:
        lines += ["<details><summary>What passed</summary>", "", *_table(passed), "", "</details>", ""]
    return "\n".join(lines)


def _table(findings: list[Finding]) -> list[str]:
    titles = ("check", "where", "found", "code")
    rows = tuple(tuple(map(Entry, (f.check, f.where, f.what, "" if f.code == OK else str(f.code)))) for f in findings)
    return grid_lines(Grid(tuple(Column(title, right=title == "code") for title in titles), rows))
