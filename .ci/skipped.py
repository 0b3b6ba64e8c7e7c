"""Prints what a test run skipped, one pytest argument a line, from its JUnit file (``-o junit_family=xunit1``)."""

import sys
import xml.etree.ElementTree as ElementTree

for case in ElementTree.parse(sys.argv[1]).iter("testcase"):
    if case.find("skipped") is not None:  # a file that was skipped as a whole has no class
        print(case.get("file") + (f"::{case.get('name')}" if case.get("classname") else ""))
