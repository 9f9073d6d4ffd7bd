//! What a plugin writes to its standard error, as log records.
//!
//! Lines are cut as HashiCorp go-plugin's host does it (64 KiB at a time, longer ones in pieces) and read as hclog's JSON
//! objects where they are that. Everything here is the plugin's word, secrets included: it is for the operator alone.
mod record;
mod split;
mod timestamp;

pub use record::{Level, LogReader, Record};
pub use split::{LineSplitter, MAX_PIECE, Piece};
