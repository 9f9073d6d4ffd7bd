//! The launcher and its client.
