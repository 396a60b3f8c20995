#!/usr/bin/env bash
# Puts an earlier release to work again: deploy/rollback.sh ENV [RELEASE]; without RELEASE the one before.
#
# Rows stay as they are, and the marts become what that release makes of them. A release that does not know the
# warehouse's migrations is refused: granary guide runbooks/failed-deployment
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=environment.sh
source deploy/environment.sh

[[ $# -eq 1 || $# -eq 2 ]] || fail "usage: deploy/rollback.sh ENV [RELEASE]"
open_environment "$1"
release=${2:-$(linked previous)}
[[ -n $release && -f $releases/$release/.deployed ]] ||
    fail "there is no release ${release:-before $current}; there are: $(find "$releases" -mindepth 1 -maxdepth 1 -printf '%f ')"
[[ $release != "$current" ]] || fail "$release is at work already"

result=failed
trap 'audit rollback "$release" "$current" "$result"' EXIT
say "from $current back to $release in $environment"
in_release "$release" granary upgrade --check ||
    fail "$release cannot work on this warehouse; nothing was done: see the runbook of a failed deployment"
say "stopping the services of $current; the warehouse stays up"
stop_services "$current"
link previous "$current"
link current "$release"
in_release "$release" granary up # functions and rights are this release's again
say "building aside what $release makes of the data"
build_aside "$release"
publish "$release"
start_services "$release"
in_release "$release" granary smoke --served
result=ok
say "$release is at work"
