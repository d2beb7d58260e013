"""llama.cpp and ggml through llama-cpp-python, the only room that calls native code."""
