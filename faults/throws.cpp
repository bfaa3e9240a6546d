// The C++ in the fault tests: an exception to leave callbacks by, and its catcher. What is done
// with them stands in callbacks.c.
#include "harness.h"

#include <stdexcept>

namespace {

struct boom : std::runtime_error {
    using std::runtime_error::runtime_error;
};

}   // namespace

extern "C" void throw_boom()
{
    throw boom("from a callback");
}

// Says whether one was caught.
extern "C" int catch_boom(void (*fn)(void *), void *arg)
{
    try {
        fn(arg);
    } catch (const boom &b) {
        CHECK_STR_EQ(b.what(), "from a callback");
        return 1;
    }
    return 0;
}
