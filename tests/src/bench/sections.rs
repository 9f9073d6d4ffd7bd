//! The sections of the report, in its order.

use super::calls::Calls;
use super::gateway::Gateway;
use super::host_calls::HostCalls;
use super::memory::Memory;
use super::reload::Reload;
use super::routes::Routes;
use super::section::Section;
use super::start::Start;

/// All of them.
#[must_use]
pub fn all() -> Vec<Box<dyn Section>> {
    vec![
        Box::new(Calls),
        Box::new(Gateway),
        Box::new(Start),
        Box::new(HostCalls),
        Box::new(Memory),
        Box::new(Routes),
        Box::new(Reload),
    ]
}
