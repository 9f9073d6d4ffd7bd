//! HTTP in front of plugins, and the administration API.
#![forbid(unsafe_code)]
