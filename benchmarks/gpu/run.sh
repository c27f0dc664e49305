#!/usr/bin/env bash
# Measures sdrt on a machine with an NVIDIA GPU, in a run of a few minutes that may be cut off; needs no network.
# docs/gpu.md says what to bring and what the figures mean; run.sh --help says what can be chosen.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
work=${SDRT_GPU_WORK:-$root/build/gpu}
wheels=${SDRT_GPU_WHEELS:-$root/benchmarks/gpu/wheels}
python=${PYTHON:-python3}

if ! command -v "$python" > /dev/null; then
    echo "Error: there is no $python; name one in PYTHON" >&2
    exit 1
fi
mkdir -p "$work"
sources=$root:$root/export:$root/benchmarks
PYTHONPATH=$sources "$python" -m sdrt_bench.gpu.environment "$wheels" "$root/benchmarks/gpu/onnxruntime-gpu" "$work/site"

export PYTHONPATH=$work/site:$sources
export PYTHONUNBUFFERED=1
export HF_HUB_OFFLINE=1
export XDG_CACHE_HOME=$work/cache
export TORCHINDUCTOR_CACHE_DIR=$work/inductor TRITON_CACHE_DIR=$work/triton
exec "$python" -m sdrt_bench.gpu --work "$work" "$@"
