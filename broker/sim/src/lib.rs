//! The broker in one thread from a seed.
