#!/usr/bin/env bash
# Starts `granary` in a container: a setting NAME_FILE is the path of a secret, whose content becomes NAME.
set -euo pipefail
for setting in $(compgen -e | grep '_FILE$' || true); do
    [[ ! -f ${!setting} ]] || export "${setting%_FILE}=$(<"${!setting}")"
done
exec granary "$@"
