//! Models for loom: the engine's own code, run in all interleavings of a few threads.
