//! The sections of the report, in its order.

use super::calls::Calls;
use super::section::Section;

/// All of them.
#[must_use]
pub fn all() -> Vec<Box<dyn Section>> {
    vec![Box::new(Calls)]
}
