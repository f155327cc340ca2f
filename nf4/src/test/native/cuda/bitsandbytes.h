#pragma once

#include <functional>
#include <string>

namespace bnb {

/**
 * What libbitsandbytes' kernel of this mangled name does with these arguments, which are copied; empty for a kernel this
 * project does not use.
 */
std::function<void()> hostKernel(const std::string& mangled, void** arguments);

}  // namespace bnb
