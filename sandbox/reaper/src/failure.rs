//! What went wrong in a step.

use core::ffi::CStr;

use rustix::io::Errno;

use crate::step::Step;

/// A step that failed.
pub(crate) struct Failure {
    pub(crate) step: Step,
    /// What was attempted.
    pub(crate) what: &'static str,
    /// What it was attempted on, where that is not fixed.
    pub(crate) path: Option<&'static CStr>,
    pub(crate) errno: Errno,
}

/// Names step and attempt of a kernel's refusal.
pub(crate) trait During<T> {
    fn during(self, step: Step, what: &'static str) -> Result<T, Failure>;
    fn during_on(self, step: Step, what: &'static str, path: &'static CStr) -> Result<T, Failure>;
}

impl<T> During<T> for Result<T, Errno> {
    fn during(self, step: Step, what: &'static str) -> Result<T, Failure> {
        self.map_err(|errno| Failure {
            step,
            what,
            path: None,
            errno,
        })
    }

    fn during_on(self, step: Step, what: &'static str, path: &'static CStr) -> Result<T, Failure> {
        self.map_err(|errno| Failure {
            step,
            what,
            path: Some(path),
            errno,
        })
    }
}
