#!/usr/bin/env bash
# Starts and stops the servers of the usual design on loopback, from Debian's packages, in a directory of their own.
#   servers.sh install        installs redis-server, rabbitmq-server and mariadb-server where they are missing (root)
#   servers.sh start DIR      starts all three and returns when each answers; refuses where a port is taken
#   servers.sh stop DIR       stops them
# Each acknowledges only what is on disk, as Millrace does under `disk`: Redis appends with fsync, the broker
# confirms persistent messages of durable queues, MariaDB flushes its log at every commit.
set -euo pipefail

REDIS_PORT=${REDIS_PORT:-27379}
AMQP_PORT=${AMQP_PORT:-25672}
SQL_PORT=${SQL_PORT:-23306}

install() {
    local missing=()
    command -v redis-server > /dev/null || missing+=(redis-server)
    command -v rabbitmq-server > /dev/null || missing+=(rabbitmq-server)
    command -v mariadbd > /dev/null || missing+=(mariadb-server)
    if [ ${#missing[@]} -gt 0 ]; then
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"
    fi
}

rabbit() {
    local dir=$1
    shift
    HOME=$dir/rabbit RABBITMQ_NODENAME=millrace-baseline@localhost RABBITMQ_NODE_PORT=$AMQP_PORT \
        RABBITMQ_NODE_IP_ADDRESS=127.0.0.1 RABBITMQ_DIST_PORT=$((AMQP_PORT + 1)) \
        RABBITMQ_MNESIA_BASE=$dir/rabbit RABBITMQ_LOG_BASE=$dir/rabbit RABBITMQ_PID_FILE=$dir/rabbit/pid \
        RABBITMQ_ENABLED_PLUGINS_FILE=$dir/rabbit/plugins RABBITMQ_CONFIG_FILE=$dir/rabbit/rabbit \
        ERL_EPMD_ADDRESS=127.0.0.1 "/usr/lib/rabbitmq/bin/$@"
}

is_taken() {
    (exec 3<> "/dev/tcp/127.0.0.1/$1") 2> /dev/null
}

# What answers at the port of Redis is the server that keeps its files in DIR.
redis_is_ours() {
    [ "$(redis-cli -p "$REDIS_PORT" config get dir 2> /dev/null | tail -1)" = "$(realpath "$1/redis")" ]
}

# Which processes were started as the broker of DIR, by their environment.
brokers() {
    local process
    for process in /proc/[0-9]*; do
        if grep -qzxF "RABBITMQ_MNESIA_BASE=$1/rabbit" "$process/environ" 2> /dev/null; then
            echo "${process#/proc/}"
        fi
    done
}

start() {
    local dir=$1 port
    for port in "$REDIS_PORT" "$AMQP_PORT" "$SQL_PORT"; do
        if is_taken "$port"; then
            echo "servers.sh: something listens on port $port already: stop it, or set REDIS_PORT, AMQP_PORT, SQL_PORT" >&2
            exit 1
        fi
    done
    STARTED=$dir
    trap 'stop "$STARTED"' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    mkdir -p "$dir/redis" "$dir/rabbit" "$dir/sql"
    redis-server --bind 127.0.0.1 --port "$REDIS_PORT" --dir "$dir/redis" --appendonly yes --appendfsync always \
        --save '' --daemonize yes --pidfile "$dir/redis/pid" --logfile "$dir/redis/log" > /dev/null

    echo '[].' > "$dir/rabbit/plugins"
    printf 'loopback_users.guest = true\n' > "$dir/rabbit/rabbit.conf"
    rabbit "$dir" rabbitmq-server -detached > "$dir/rabbit/start.log" 2>&1

    local user=()
    if [ "$(id -u)" = 0 ]; then
        chown -R mysql "$dir/sql"
        chmod a+x "$dir"
        user=(--user=mysql)
    fi
    mariadb-install-db --no-defaults "${user[@]}" --datadir="$dir/sql/data" --auth-root-authentication-method=normal \
        > "$dir/sql/install.log" 2>&1
    mariadbd --no-defaults "${user[@]}" --datadir="$dir/sql/data" --bind-address=127.0.0.1 --port="$SQL_PORT" \
        --socket="$dir/sql/socket" --pid-file="$dir/sql/pid" --innodb-flush-log-at-trx-commit=1 --sync-binlog=1 \
        --skip-log-bin --innodb-buffer-pool-size=256M > "$dir/sql/log" 2>&1 &
    disown

    local tries=0
    until redis_is_ours "$dir" \
        && mariadb-admin --no-defaults --socket="$dir/sql/socket" -uroot ping > /dev/null 2>&1 \
        && is_taken "$AMQP_PORT" && [ -n "$(brokers "$dir")" ]; do
        tries=$((tries + 1))
        if [ $tries -gt 300 ]; then
            echo "servers.sh: a server does not answer; logs are in $dir" >&2
            exit 1
        fi
        sleep 0.2
    done
    mariadb --no-defaults --socket="$dir/sql/socket" -uroot -e "
        CREATE DATABASE IF NOT EXISTS baseline;
        CREATE USER IF NOT EXISTS baseline@'127.0.0.1' IDENTIFIED BY 'baseline';
        CREATE USER IF NOT EXISTS baseline@localhost IDENTIFIED BY 'baseline';
        GRANT ALL ON baseline.* TO baseline@'127.0.0.1'; GRANT ALL ON baseline.* TO baseline@localhost;"
    trap - EXIT INT TERM
}

stop() {
    local dir=$1
    if redis_is_ours "$dir"; then
        redis-cli -p "$REDIS_PORT" shutdown nosave > /dev/null 2>&1 || true
    fi
    rabbit "$dir" rabbitmqctl stop > /dev/null 2>&1 || true
    mariadb-admin --no-defaults --socket="$dir/sql/socket" -uroot shutdown > /dev/null 2>&1 \
        || kill "$(cat "$dir/sql/pid" 2> /dev/null)" 2> /dev/null || true
    # One that was still starting, and the port mapper that came with it.
    local process
    for process in $(brokers "$dir"); do
        kill "$process" 2> /dev/null || true
    done
}

case ${1:-} in
    install) install ;;
    start | stop) "$1" "${2:?a directory}" ;;
    *)
        echo "usage: servers.sh install | start DIR | stop DIR" >&2
        exit 2
        ;;
esac
