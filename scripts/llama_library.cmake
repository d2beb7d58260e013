# Read by the build of llama-cpp-python right after project(): no library of llama.cpp's tools, which Python never loads.
# A variable of this name wins over the cached one that llama-cpp-python forces on.
set(LLAMA_BUILD_COMMON OFF)
