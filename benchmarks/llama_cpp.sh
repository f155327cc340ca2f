# Sourced by the scripts here: $llama_cpp, a folder with the libraries of llama.cpp, from node-llama-cpp's package (its Java binding
# carries one of March 2025, which knows neither qwen3 nor smollm3).
llama_cpp_package=$cache/node-llama-cpp-3.22.1
llama_cpp=$llama_cpp_package/package/bins/linux-x64
if [ ! -d "$llama_cpp" ]; then
    command -v npm > /dev/null || { echo "npm is needed to fetch llama.cpp's libraries (@node-llama-cpp/linux-x64)" >&2; exit 1; }
    mkdir -p "$llama_cpp_package"
    (cd "$llama_cpp_package" && npm pack --silent @node-llama-cpp/linux-x64@3.22.1 > /dev/null && tar xzf ./*.tgz && rm ./*.tgz)
fi
