"""Fails unless every test that ran in one test run ran in another too: ``ran.py ONE.xml OTHER.xml``, their JUnit files.

A run that collected nothing, or skipped what the other did not, is green by itself and shows nothing.
"""

import sys
import xml.etree.ElementTree as ElementTree


def ran(path):
    """The tests that were not skipped, as pytest names them but for the folder."""
    cases = ElementTree.parse(path).iter("testcase")
    return {f"{case.get('classname')}::{case.get('name')}" for case in cases if case.find("skipped") is None}


def main(one, other):
    expected, found = ran(one), ran(other)
    missing = sorted(expected - found)
    print(f"{len(found)} tests ran, {len(expected)} in the run before")
    if not expected or missing:
        named = "".join(f"\n  {test}" for test in missing[:10])
        sys.exit(f"too few tests ran: expected all of {len(expected)}, {len(missing)} of them did not{named}")


if __name__ == "__main__":
    main(*sys.argv[1:])
