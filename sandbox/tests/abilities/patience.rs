//! The limit of every wait.

use std::time::Duration;

/// How long a test waits for anything. Only a test that fails waits so long: nothing here takes a second
/// on an idle machine, and it may be emulated, and busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(300);
