//! Typed read statements.
