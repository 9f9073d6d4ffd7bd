//! What a plugin is and may do, as pure data.
#![forbid(unsafe_code)]
