//! Tests on fake trees.
