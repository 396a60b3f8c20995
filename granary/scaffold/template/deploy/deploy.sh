#!/usr/bin/env bash
# Puts the commit that is checked out to work: deploy/deploy.sh ENV [--no-backup]
#
# ENV names a file of deploy/environments/. What fails before the switch leaves the release that is at work; what fails
# after it is rolled back. Who reads marts neither waits nor sees half of it. docs: engine/deployment.md
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=environment.sh
source deploy/environment.sh

backup=${2:-}
[[ $# -ge 1 && $backup =~ ^(--no-backup)?$ ]] || fail "usage: deploy/deploy.sh ENV [--no-backup]"
[[ -z $(git status --porcelain) ]] || fail "there are uncommitted changes: a release is a commit"
release=$(git describe --always --tags)
open_environment "$1"
[[ $release != "$current" ]] || fail "$release is at work already"

free=$(($(df --output=avail -k "$GRANARY_ROOT" | tail -n 1) / 1024))
memory=$(awk '/MemTotal/ {print int($2 / 1024)}' /proc/meminfo)
say "$release to $environment ($GRANARY_ROOT): $(nproc) cores, $memory MB of memory, $free MB of disk free"
((memory >= ${GRANARY_MIN_MEMORY_MB:-2000})) || fail "$memory MB of memory are too little: GRANARY_MIN_MEMORY_MB"
((free >= ${GRANARY_MIN_DISK_MB:-5000})) || fail "$free MB of disk are too little: make room, or GRANARY_MIN_DISK_MB"

stage=installing
stopped=no switched=no
ended() {
    local code=$?
    trap - EXIT
    ((code)) || return 0
    audit deploy "$release" "$current" "failed while $stage"
    if [[ $switched == yes && -n $current ]]; then
        say "failed while $stage: rolling back to $current"
        exec 9>&- # the rollback takes the lock
        deploy/rollback.sh "$environment" "$current" || say "the rollback failed, too: .venv/bin/granary guide runbooks/failed-deployment"
    else
        say "failed while $stage: ${current:-nothing} stays at work"
        [[ $stopped == no || -z $current ]] || start_services "$current" || true
    fi
    exit "$code"
}
trap ended EXIT

fresh=$releases/$release
say "$stage"
rm -rf "$fresh"
mkdir "$fresh"
git archive HEAD | tar -x -C "$fresh"
same() { cmp -s "$fresh/$1" "$releases/$current/$1" || [[ ! -e $fresh/$1 && ! -e $releases/$current/$1 ]]; }
if [[ -n $current && -z ${PYTHON:-} ]] && same requirements.lock && same requirements.txt; then
    # The same packages: links to the same files, and scripts that know where they are now.
    cp -al "$releases/$current/.venv" "$fresh/.venv"
    grep -rlIZ "^#!$releases/$current/" "$fresh/.venv/bin" | xargs -0r sed -i "1s|$releases/$current/|$fresh/|"
fi
"$fresh/deploy/install.sh"
touch "$fresh/.deployed"

if [[ -z $current ]]; then
    say "the first release: there is nothing to back up"
elif [[ $backup == --no-backup ]]; then
    say "no backup, as you wish: there is no way back once the warehouse is migrated"
else
    stage="backing up"
    say "$stage"
    in_release "$release" granary backup
fi

stage="trying the migrations"
if [[ -n $current ]]; then
    say "$stage"
    in_release "$release" granary upgrade --check
    stage="stopping the services of $current"
    say "$stage; the warehouse stays up"
    stopped=yes
    stop_services "$current"
fi

stage=migrating
say "$stage"
in_release "$release" granary up
if [[ -n $current ]]; then
    stage="building aside"
    say "$stage"
    build_aside "$release"
fi
stage="smoke testing"
say "$stage"
in_release "$release" granary smoke

stage="switching"
say "$stage"
[[ -z $current ]] || link previous "$current"
link current "$release"
switched=yes
stage=publishing
[[ -z $current ]] || publish "$release"
stage="starting the services"
say "$stage"
start_services "$release"
stage="checking what is at work"
in_release "$release" granary smoke --served
if [[ -x $fresh/deploy/smoke.sh ]]; then # what else this project has to see
    (cd "$fresh" && deploy/smoke.sh 9>&-)
fi
audit deploy "$release" "$current" ok
say "$release is at work"

# Old releases go: not the current one, its predecessor, and the one that the server was started from.
pid=$(head -n 1 "$GRANARY_HOME/data/postmaster.pid" 2>/dev/null || true)
server=$([[ -z $pid ]] || readlink "/proc/$pid/exe" || true)
find "$releases" -mindepth 2 -maxdepth 2 -name .deployed -printf '%T@ %h\n' | sort -rn | tail -n "+$((${GRANARY_KEEP:-5} + 1))" |
    while read -r _ old; do
        name=$(basename "$old")
        [[ $name != "$release" && $name != "$current" && $server != "$old/"* ]] || continue
        say "removing the release $name"
        rm -rf "$old"
    done
