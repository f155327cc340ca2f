// Makes a __global__ function known to the simulated driver by its name.
#pragma once

#include <tuple>
#include <utility>

#include "sim.h"

namespace sim {

template <class... A, size_t... I>
std::function<void()> bindArguments(void (*kernel)(A...), void** addresses, std::index_sequence<I...>) {
    std::tuple<std::decay_t<A>...> arguments{*(std::decay_t<A>*) addresses[I]...};
    return [=] { std::apply(kernel, arguments); };
}

template <class... A> bool add(const char* name, void (*kernel)(A...)) {
    auto bind = [kernel](void** addresses) {
        return bindArguments(kernel, addresses, std::index_sequence_for<A...>{});
    };
    kernels()[name] = {name, bind, (int) sizeof...(A), 48 << 10};
    return true;
}

}  // namespace sim

#define REGISTER(kernel) static bool registered_##kernel = sim::add(#kernel, kernel);
