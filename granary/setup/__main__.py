"""Set up everything that Granary runs on: `python3 granary/setup`, which every `make` target calls first.

This file only chooses the interpreter, so it is written for any Python, even 2.7: an old one must get to the
sentence below and not to a syntax error. The steps are in `granary/setup/environment.py`. Standard library only.
"""

import os
import subprocess
import sys

SUPPORTED = ("3.13", "3.12", "3.11", "3.10")

if ".".join(str(part) for part in sys.version_info[:2]) not in SUPPORTED:
    found = "Granary needs Python 3.10 to 3.13 and was started with " + sys.version.split()[0]
    question = "import sys; sys.exit('.'.join(map(str, sys.version_info[:2])) not in " + repr(SUPPORTED) + ")"
    for version in SUPPORTED:
        for folder in os.environ.get("PATH", os.defpath).split(os.pathsep):
            candidate = os.path.join(folder, "python" + version)
            if not os.access(candidate, os.X_OK):
                continue
            # A version manager's shim exists for versions that it then refuses to run: ask.
            with open(os.devnull, "w") as nowhere:
                refused = subprocess.call([candidate, "-c", question], stdout=nowhere, stderr=nowhere)
            if not refused:
                sys.stderr.write(found + ": using " + candidate + " instead.\n")
                sys.stderr.flush()
                arguments = [candidate]
                arguments.extend(sys.argv)
                os.execv(candidate, arguments)  # noqa: S606 - no shell is meant
    sys.exit(found + ": install one of them, or say where it is: make PYTHON=/path/to/python3.12 setup")

# The folder of this file would let modules of the command hide those of the standard library.
sys.path[0] = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from granary.setup.environment import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
