#!/usr/bin/env bash
# Installs what this project runs on into .venv/, as the engine's lock pins it: no tests, no linters.
# Run in the project's folder: deploy/install.sh (PYTHON says which interpreter; PIP_* settings are pip's own).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

[[ -x .venv/bin/python ]] || "${PYTHON:-python3}" -m venv .venv
install=(.venv/bin/python -I -m pip --disable-pip-version-check --quiet install --no-deps)
locked=(--require-hashes --only-binary :all: --requirement)

if [[ -f requirements.lock ]]; then # a checkout of the engine
    "${install[@]}" "${locked[@]}" requirements.lock
    "${install[@]}" --no-build-isolation --no-index --force-reinstall --editable .
else # a project that installs the engine: its wheel brings the lock
    engine=$(sed -n 's/^\(granary-elt\)\[[^]]*\]/\1/p' requirements.txt)
    "${install[@]}" --force-reinstall "$engine"
    "${install[@]}" "${locked[@]}" .venv/share/granary/requirements.lock
fi
.venv/bin/python -m granary.setup.dbt_packages
