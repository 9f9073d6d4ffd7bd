//! The administration API: what it can do ([`Control`]), what it says ([`dto`]), and how it is
//! served.

mod control;
pub mod dto;

pub use control::{Control, ControlError, ControlFuture};
