"""JUnit: a comparison in the XML that CI servers read as the results of tests.

A test suite for each run held against the first. Its cases: that the run raised no alert, and for
each layer that it does not depart to the end. The same ones fail that make ``--fail-on`` fail; what
else was found stands in a case's output, and a layer without a counterpart is a case that was skipped.
"""

from __future__ import annotations

from xml.etree import ElementTree as tree

from shiftwatch.comparison.result import Against, Comparison
from shiftwatch.records import INPUT


def junit(comparison: Comparison, fail_on: str = "") -> str:
    """The comparison as a JUnit file.

    Args:
        comparison: what ``shiftwatch.compare`` gives.
        fail_on: what fails, one of :data:`shiftwatch.comparison.GRADES`; nothing by default.

    Returns:
        XML 1.0, in the form that pytest writes and Jenkins, GitLab and GitHub actions read.
        Characters that XML has no place for are written as Python escapes them.

    Raises:
        ValueError: for another ``fail_on``.

    Example:
        >>> import numpy as np, shiftwatch
        >>> with shiftwatch.Monitor(run=False) as monitor:
        ...     for step in range(16):
        ...         monitor.observe("fc1", np.random.default_rng(step).normal(size=(32, 4)))
        ...         monitor.step()
        >>> found = shiftwatch.compare(monitor.history, monitor.history, names=("good", "new"))
        >>> print(junit(found))
        <?xml version="1.0" encoding="UTF-8"?>
        <testsuites name="shiftwatch" tests="2" failures="0" errors="0" time="0">
          <testsuite name="new against good" tests="2" failures="0" errors="0" skipped="0" time="0">
            <testcase classname="new" name="raises no alert" time="0" />
            <testcase classname="new" name="fc1 is like in good" time="0" />
          </testsuite>
        </testsuites>
        <BLANKLINE>
    """
    suites = tree.Element("testsuites", {"name": "shiftwatch"})
    total = dict.fromkeys(("tests", "failures", "errors"), 0)
    for number, run in enumerate(comparison.against, start=1):
        suite = _suite(comparison, number, run, fail_on)
        suites.append(suite)
        for key in total:
            total[key] += int(suite.get(key, "0"))
    suites.attrib |= {key: str(n) for key, n in total.items()} | {"time": "0"}
    tree.indent(suites)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{tree.tostring(suites, encoding="unicode")}\n'


def _suite(comparison: Comparison, number: int, run: Against, fail_on: str) -> tree.Element:
    first = comparison.names[0]
    name = allowed(f"{run.name} against {first}")
    cases = [_alerts(comparison, number, run, fail_on)]
    found = {d.layer: d for d in run.differences}
    for pair in run.pairs:
        difference = found[pair.b]
        where = "the input" if pair.b == INPUT else pair.b
        twin = "" if pair.a == pair.b else f"{pair.a} "
        case = _case(run.name, f"{where} is like {twin}in {first}")
        if difference.since is not None:
            failed = difference.departs and fail_on == "difference"
            _tell(case, failed, difference.measure, difference.sentence)
        cases.append(case)
    for layers, missing in ((run.only_first, run.name), (run.only_this, first)):
        for layer in layers:
            case = _case(run.name, f"{layer} has a counterpart")
            message = allowed(f"{missing} has no such layer")
            tree.SubElement(case, "skipped", {"message": message})
            cases.append(case)
    suite = tree.Element("testsuite", {"name": name, "tests": str(len(cases))})
    suite.attrib |= {
        "failures": str(sum(case.find("failure") is not None for case in cases)),
        "errors": "0",
        "skipped": str(sum(case.find("skipped") is not None for case in cases)),
        "time": "0",
    }
    suite.extend(cases)
    return suite


def _alerts(comparison: Comparison, number: int, run: Against, fail_on: str) -> tree.Element:
    case = _case(run.name, "raises no alert")
    alerts = comparison.alerts[number]
    grave = comparison.grave(number, fail_on) if fail_on else ()
    if alerts:
        worst = (grave or alerts)[0]
        _tell(case, bool(grave), worst.kind, *(f"{a.severity}: {a.message}" for a in alerts))
    return case


def _tell(case: tree.Element, failed: bool, kind: str, *lines: str) -> None:
    """What was found: as a failure, or in the output of a case that passes."""
    text = allowed("\n".join(line.replace("\n", " ") for line in lines))
    if failed:
        message = text.partition("\n")[0]
        tree.SubElement(case, "failure", {"message": message, "type": kind}).text = text
    else:
        tree.SubElement(case, "system-out").text = text


def _case(run: str, name: str) -> tree.Element:
    return tree.Element("testcase", {"classname": allowed(run), "name": allowed(name), "time": "0"})


def allowed(text: str) -> str:
    r"""Text that XML 1.0 can hold; line feeds stay, other control characters are spelled out.

    Example:
        >>> allowed("fc1\x1b[2J & <b>")
        'fc1\\x1b[2J & <b>'
    """
    return "".join(
        c if c == "\n" or (c.isprintable() or c == " ") else c.encode("unicode_escape").decode()
        for c in text
    )
