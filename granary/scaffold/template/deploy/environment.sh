# shellcheck shell=bash disable=SC2034 # its variables are used by those who read it
# Read by deploy.sh and rollback.sh: the settings of an environment, and what both do with its releases.
#
# An environment is a folder: releases/ID, the links `current` and `previous`, home/ (the warehouse), deployments.log.

say() { printf '%s  %s\n' "$(date -u +%H:%M:%S)" "$*"; }

fail() {
    printf '%s: %s\n' "$(basename "$0")" "$*" >&2
    exit 1
}

# open_environment ENV: sets and exports what deploy/environments/ENV.env and the environment's secrets say.
open_environment() {
    environment=$1
    local file=deploy/environments/$1.env
    [[ -f $file ]] || fail "there is no $file: copy one that is there"
    set -a
    # shellcheck source=/dev/null
    source "$file"
    GRANARY_HOME=$GRANARY_ROOT/home
    # shellcheck source=/dev/null
    [[ ! -f $GRANARY_ROOT/secrets.env ]] || source "$GRANARY_ROOT/secrets.env"
    set +a
    unset GRANARY_PROJECT PYTHONPATH
    releases=$GRANARY_ROOT/releases
    mkdir -p "$releases"
    exec 9>"$GRANARY_ROOT/deploy.lock"
    flock --nonblock 9 || fail "another deployment or rollback of $1 is at work"
    current=$(linked current)
}

# linked NAME: the release that a link leads to, or nothing.
linked() { [[ ! -L $GRANARY_ROOT/$1 ]] || basename "$(readlink "$GRANARY_ROOT/$1")"; }

# link NAME ID: have a link lead to another release from one moment to the next.
link() {
    ln -sfn "releases/$2" "$GRANARY_ROOT/$1.new"
    mv -T "$GRANARY_ROOT/$1.new" "$GRANARY_ROOT/$1"
}

# in_release ID COMMAND...: run a command of a release in its folder; what it starts does not hold our lock.
in_release() {
    local folder=$releases/$1 command=$2
    shift 2
    (cd "$folder" && exec ".venv/bin/$command" "$@" 9>&-)
}

# audit ACTION RELEASE BEFORE RESULT: a line of JSON for each deployment and rollback.
audit() {
    printf '{"at":"%s","by":"%s","environment":"%s","action":"%s","release":"%s","before":"%s","result":"%s","seconds":%d}\n' \
        "$(date -u +%FT%TZ)" "${SUDO_USER:-$(id -un)}" "$environment" "$@" "$SECONDS" >>"$GRANARY_ROOT/deployments.log"
}

# Dagster, schedules, sensors and alerts. The warehouse is a service of its own: who reads marts notices nothing.
stop_services() {
    if [[ -n ${GRANARY_SERVICE:-} ]]; then
        sudo --non-interactive systemctl stop "$GRANARY_SERVICE"
    else
        in_release "$1" granary serve --stop
    fi
}

start_services() {
    if [[ -n ${GRANARY_SERVICE:-} ]]; then
        sudo --non-interactive systemctl start "$GRANARY_SERVICE"
    else
        in_release "$1" granary serve --detach --no-warehouse --port "${GRANARY_PORT:-3000}"
    fi
}

# build_aside ID: have the schema `build` be what a release makes of the data; marts stay as they are until `publish ID`.
build_aside() { in_release "$1" dbt --quiet build --vars 'publish: false'; }
publish() { in_release "$1" dbt --quiet run-operation publish; }
