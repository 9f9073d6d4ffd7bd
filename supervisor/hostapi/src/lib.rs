//! What a plugin may ask of its host, and the one dispatcher through which every such call goes.
#![forbid(unsafe_code)]
