#include "bitsandbytes.h"

#include <cstdlib>

namespace bnb {

int templateArgument(const std::string& kernel, int i) {
    size_t at = kernel.find('<');
    for (int k = 0; k <= i; k++) {
        at = kernel.find(',', at) + 1;
    }
    return atoi(kernel.c_str() + at);
}

Work hostKernel(const std::string& kernel, void** arguments, std::string& text) {
    Work work = blockKernel(kernel, {arguments, text});
    return work ? work : optimizerKernel(kernel, {arguments, text});
}

}  // namespace bnb
