// libbitsandbytes' kernels as plain loops, by its documented behaviour. Arguments are decoded by the kernels' parameter
// lists, which differ from those of the C functions around them.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstring>
#include <functional>
#include <string>
#include <type_traits>

namespace bnb {

/** The arguments of a launch, one after the other; what is taken is written down. */
class Arguments {
public:
    Arguments(void** addresses, std::string& text) : next(addresses), text(text) {}

    template <class T> operator T() {
        T value;
        memcpy(&value, *next++, sizeof value);
        char word[40];
        if constexpr (std::is_pointer_v<T>) {
            snprintf(word, sizeof word, " 0x%llx", (unsigned long long) (uintptr_t) value);
        } else if constexpr (std::is_same_v<T, float>) {
            snprintf(word, sizeof word, " %.9g", (double) value);
        } else {
            snprintf(word, sizeof word, " %d", (int) value);
        }
        text += word;
        return value;
    }

private:
    void** next;
    std::string& text;
};

using Work = std::function<void()>;

/**
 * What a kernel does with these arguments, which are copied; empty for a kernel this project does not use.
 *
 * @param kernel its name, e.g. "kOptimizer32bit2State<float, 0>"
 * @param text gets the arguments as they were decoded, each behind a space
 */
Work hostKernel(const std::string& kernel, void** arguments, std::string& text);

/** An integer template argument, counted from 0 behind the type. */
int templateArgument(const std::string& kernel, int i);

/** The entry of an ascending map of 256 that the kernels' bisection finds. */
int encode8(const float* map, float v);

// Empty where the name is none of theirs.
Work blockKernel(const std::string& kernel, Arguments arguments);
Work optimizerKernel(const std::string& kernel, Arguments arguments);

}  // namespace bnb
