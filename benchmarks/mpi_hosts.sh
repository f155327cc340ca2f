#!/usr/bin/env bash
# Four hosts in network namespaces, one rank on each, joined by a bridge; started without ssh, through a launch agent. Trains once to the end, then
# again and cuts the link of the fourth host in mid-run: the others must stop within 60 s with a sentence that names the lost rank, the last
# checkpoint must be whole, and a run on three hosts goes on from it. Then cuts it under a run that restarts by itself, for a while. Needs root, ip
# and Open MPI.
#   benchmarks/mpi_hosts.sh MODEL ROWS.jsonl     a small model: every host holds one
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(dirname "$here")
model=$(realpath "$1")
rows=$(realpath "$2")
work=$(mktemp -d)
net=10.77.0
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1

remove() {
    for i in 1 2 3 4; do ip netns del "qlora$i" 2>/dev/null || true; done
    ip netns del qloraswitch 2>/dev/null || true
}
trap 'remove; rm -rf "$work"' EXIT
remove

ip netns add qloraswitch
ip -n qloraswitch link add name switch type bridge
ip -n qloraswitch link set switch up
for i in 1 2 3 4; do
    ip netns add "qlora$i"
    ip -n "qlora$i" link set lo up
    ip link add name eth0 netns "qlora$i" type veth peer name "port$i" netns qloraswitch
    ip -n "qlora$i" addr add "$net.$i/24" dev eth0
    ip -n "qlora$i" link set eth0 up
    ip -n qloraswitch link set "port$i" master switch up
done

# on HOST COMMAND…: runs it on that host, which has its own network and its own name
cat >"$work/on" <<'AGENT'
#!/bin/sh
host=${1##*.}
shift
exec ip netns exec "qlora$host" unshare --uts sh -c 'hostname "host$0"; exec sh -c "$*"' "$host" "$@"
AGENT
chmod +x "$work/on"
for i in 1 2 3 4; do echo "$net.$i slots=1"; done >"$work/hosts"

# the options of all runs; the folder of the output comes last
mpirun="mpirun --hostfile $work/hosts --mca plm_rsh_agent $work/on --mca plm_rsh_no_tree_spawn 1 --mca btl tcp,self --mca btl_tcp_if_include $net.0/24 \
    --mca oob_tcp_if_include $net.0/24 --bind-to none -x OMPI_ALLOW_RUN_AS_ROOT -x OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"
sft=("$root/qlora" sft --model "$model" --quant_method bnb --quant_bits 4 --dataset "$rows" --gradient_accumulation_steps 8 --threads 1
    --add_version false --save_steps 1 --save_total_limit 3 --logging_steps 1 --rank_timeout 10)

# train HOSTS OUTPUT [OPTIONS…]
train() {
    local hosts=$1 output=$2
    shift 2
    "$work/on" "$net.1" $mpirun -n "$hosts" "${sft[@]}" --output_dir "$work/$output" "$@"
}

# await RUN JOB LOG: until that run has three checkpoints
await() {
    until [ -d "$work/$1/checkpoint-3" ]; do
        kill -0 "$2" 2>/dev/null || { cat "$3"; exit 1; }
        sleep 0.2
    done
}

echo "== 4 hosts, 1 host, the same bits"
train 4 four --max_steps 4 >"$work/four.txt" 2>&1 || { cat "$work/four.txt"; exit 1; }
train 1 one --max_steps 4 >"$work/one.txt" 2>&1 || { cat "$work/one.txt"; exit 1; }
cmp "$work/four/checkpoint-4/adapter_model.safetensors" "$work/one/checkpoint-4/adapter_model.safetensors"
echo "equal"

echo "== 4 hosts, the link of host 4 is cut in mid-run"
train 4 cut --max_steps 1000000 >"$work/cut.txt" 2>&1 &
job=$!
await cut $job "$work/cut.txt"
# processes on the hosts, by name: java is a rank, mpirun and orted are Open MPI's
named() { for i in 1 2 3 4; do for pid in $(ip netns pids "qlora$i"); do [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = "$1" ] && echo "$pid"; done; done; true; }
ip -n qloraswitch link set port4 down
start=$(date +%s)
until [ -z "$(named java)" ]; do
    [ $(($(date +%s) - start)) -lt 120 ] || { echo "ranks live on: $(named java)"; exit 1; }
    sleep 0.5
done
echo "all ranks had ended $(($(date +%s) - start)) s after the cut"
grep "^qlora:" "$work/cut.txt" || { cat "$work/cut.txt"; exit 1; }
# mpirun waits for the daemon it cannot reach, for as long as TCP sends again (a quarter of an hour)
for pid in $(named mpirun) $(named orted); do kill -9 "$pid" 2>/dev/null || true; done
wait $job || true
ip -n qloraswitch link set port4 up

echo "== three hosts go on"
last=$(readlink "$work/cut/last")
train 3 cut --resume_from_checkpoint "$work/cut" --max_steps $((${last#checkpoint-} + 2)) >"$work/on3.txt" 2>&1 || { cat "$work/on3.txt"; exit 1; }
grep "^trained" "$work/on3.txt"
echo "from $last to $(readlink "$work/cut/last")"

echo "== 4 hosts, the link of host 4 is cut for 40 s; the run starts again by itself"
steps=${STEPS:-400}
# on passes its words through a shell once more
"$work/on" "$net.1" "${sft[@]}" --output_dir "$work/again" --max_steps "$steps" --max_restarts 3 --launch "'$mpirun -n 4'" >"$work/again.txt" 2>&1 &
job=$!
await again $job "$work/again.txt"
start=$(date +%s)
ip -n qloraswitch link set port4 down
sleep 40
ip -n qloraswitch link set port4 up
wait $job || { cat "$work/again.txt"; exit 1; }
grep "^qlora:" "$work/again.txt"
grep -q "restart . of 3.* from .*checkpoint-" "$work/again.txt" || { cat "$work/again.txt"; exit 1; }
train 1 unbroken --max_steps "$steps" >"$work/unbroken.txt" 2>&1 || { cat "$work/unbroken.txt"; exit 1; }
cmp "$work/again/checkpoint-$steps/adapter_model.safetensors" "$work/unbroken/checkpoint-$steps/adapter_model.safetensors"
echo "ended with status 0, $(($(date +%s) - start)) s after the cut (the run on one host included), with the bits of an unbroken run on one host"
