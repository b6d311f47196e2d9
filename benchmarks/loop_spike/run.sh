#!/bin/sh
# Builds both loops and measures them in turn, with mosquitto as the yardstick. About eight minutes.
#   ./run.sh MQLOAD COMPARE_PY [ROUNDS]
# MQLOAD is the load generator, COMPARE_PY the script that interleaves its runs. Ports 18891 to 18896 must be free.
# The variable CLIENTS (50000) says how many idle clients; they share three processes of each broker.
set -eu

[ $# -ge 2 ] || { sed -n '2,5s/^# *//p' "$0"; exit 2; }
mqload=$(realpath "$1") compare=$(realpath "$2") rounds=${3:-5} clients=${CLIENTS:-50000}
cd "$(dirname "$0")"
PATH=$PATH:/usr/sbin

cargo build --release
built=$(realpath "${CARGO_TARGET_DIR:-target}")/release
configs=$(mktemp -d)
trap 'rm -r "$configs"' EXIT
for port in 18893 18894 18895 18896; do
    cat > "$configs/$port.conf" <<CONFIG
listener $port 127.0.0.1
allow_anonymous true
persistence false
max_inflight_messages 0
max_queued_messages 0
log_type none
sys_interval 0
set_tcp_nodelay true
user root
CONFIG
done

python3 "$compare" --mqload "$mqload" --ref epoll --rounds "$rounds" --out "$built/results.json" \
    --set pair-q1,pair-q1-w1,pair-q0,pair-q0-w1,fanout-q0,connect-5k \
    --broker "epoll=@18891:$built/epoll --port 18891" \
    --broker "tokio=@18892:$built/tokio --port 18892" \
    --broker "mosquitto=@18893:mosquitto -c $configs/18893.conf"

ulimit -n "$(ulimit -Hn)"
python3 idle.py --mqload "$mqload" --clients "$clients" --ports 18894 18895 18896 --rounds 3 \
    --broker "epoll=$built/epoll --port {port}" \
    --broker "tokio=$built/tokio --port {port}" \
    --broker "mosquitto=mosquitto -c $configs/{port}.conf"
